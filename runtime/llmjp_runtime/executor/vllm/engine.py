"""The part of vLLM that the executor uses; its only importer.

It takes vLLM 0.24 to 0.29, on GPUs and, from a build of its own, on CPUs.
"""

from __future__ import annotations

import importlib
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_runtime.errors import EngineMissing

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_runtime.executor.protocol import ExecutorLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmApi:
    """Classes of `vllm`, by their names there."""

    AsyncLLM: Any
    AsyncEngineArgs: Any
    SamplingParams: Any
    RequestOutputKind: Any
    UsageContext: Any
    EngineDeadError: type[Exception]
    """Raised for every request once the engine's core is gone."""
    runs_on_cpu: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What vLLM is told of serving; see `ServingSettings`."""

    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    dtype: str = "auto"
    memory_fraction: float
    prefix_caching: bool = True


def load_api() -> VllmApi:
    """Import the installed vLLM.

    Raises:
        EngineMissing: vLLM is not installed.
    """
    # Its core is a process of its own, which must not inherit the threads of this one.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        sampling = importlib.import_module("vllm.sampling_params")
        engine = importlib.import_module("vllm.v1.engine.async_llm")
        arguments = importlib.import_module("vllm.engine.arg_utils")
        failures = importlib.import_module("vllm.v1.engine.exceptions")
        usage = importlib.import_module("vllm.usage.usage_lib")
        platforms = importlib.import_module("vllm.platforms")
    except ImportError as exc:
        raise EngineMissing(
            f"backend vllm needs vLLM, which cannot be imported here ({exc}): run inside the image "
            "for it (docs/serving.md), or install vllm beside llmjp-serving"
        ) from exc
    return VllmApi(
        AsyncLLM=engine.AsyncLLM,
        AsyncEngineArgs=arguments.AsyncEngineArgs,
        SamplingParams=sampling.SamplingParams,
        RequestOutputKind=sampling.RequestOutputKind,
        UsageContext=usage.UsageContext,
        EngineDeadError=failures.EngineDeadError,
        runs_on_cpu=platforms.current_platform.is_cpu(),
    )


def build_engine_arguments(
    checkpoint: Path, limits: ExecutorLimits, settings: EngineSettings, *, runs_on_cpu: bool
) -> dict[str, Any]:
    """Return the arguments of `AsyncEngineArgs`."""
    return {
        "model": str(checkpoint),
        "skip_tokenizer_init": True,
        "dtype": settings.dtype,
        "tensor_parallel_size": settings.tensor_parallel,
        "pipeline_parallel_size": settings.pipeline_parallel,
        "max_model_len": limits.max_context,
        "max_num_seqs": limits.max_batch_size,
        "gpu_memory_utilization": settings.memory_fraction,
        "enable_prefix_caching": settings.prefix_caching,
        "generation_config": "vllm",  # the front model knows the card's sampling
        # Of the distribution that was drawn from, as with the other backends.
        "logprobs_mode": "processed_logprobs",
        # Draws without a seed of their own come from this one: another at every start.
        "seed": secrets.randbits(31),
        "disable_log_stats": True,
        # A CPU has no graphs to capture, and compiling for one takes minutes.
        "enforce_eager": runs_on_cpu,
    }


def start_engine(api: VllmApi, arguments: dict[str, Any]) -> Any:
    """Load the model and return the engine; raises what vLLM raises.

    What is not said comes from vLLM's defaults for its own server: the size of a step, above all.
    """
    return api.AsyncLLM.from_engine_args(
        api.AsyncEngineArgs(**arguments), usage_context=api.UsageContext.OPENAI_API_SERVER
    )
