"""`config.pbtxt` of NVIDIA's C++ model `tensorrt_llm`, rendered at start.

The backend takes a parameter it does not find as unset and uses its own default
(NVIDIA/TensorRT-LLM, triton_backend/inflight_batcher_llm/src/model_instance_state.cc), with two
exceptions: `gpt_model_type`, and the three keys of guided decoding, which must exist.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmjp_builder.contracts.defaults import KV_CACHE_FRACTION
from llmjp_runtime.executor.tensorrt.tensors import ENGINE_INPUTS, ENGINE_OUTPUTS

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_runtime.executor.tensorrt.engine_config import EngineConfig
    from llmjp_runtime.executor.tensorrt.tensors import EngineTensor

ENGINE_MODEL_NAME = "tensorrt_llm"
"""NVIDIA's name; dashboards and the MPI ranks go by it."""
ENGINE_BACKEND = "tensorrtllm"
"""Folder of the C++ backend below Triton's backends."""
WORKER = f"/opt/tritonserver/backends/{ENGINE_BACKEND}/trtllmExecutorWorker"
"""Where NVIDIA's image keeps the worker; started in orchestrator mode only, which is not used."""


def render_engine_model_config(
    engine: EngineConfig, folder: Path, kv_cache_fraction: float = KV_CACHE_FRACTION
) -> str:
    """Return the text of the model's `config.pbtxt`; `folder` holds the engine."""
    size = engine.max_batch_size
    lines = [
        f"name: {json.dumps(ENGINE_MODEL_NAME)}",
        f"backend: {json.dumps(ENGINE_BACKEND)}",
        f"max_batch_size: {size}",
        "model_transaction_policy { decoupled: true }",
        # No delay and no limit: TensorRT-LLM batches by itself, and the front model bounds the
        # queue.
        f"dynamic_batching {{ preferred_batch_size: [ {size} ] max_queue_delay_microseconds: 0",
        "default_queue_policy { max_queue_size: 0 } }",
        "instance_group { count: 1 kind: KIND_CPU }",
    ]
    lines += [_render_tensor("input", tensor) for tensor in ENGINE_INPUTS]
    lines += [_render_tensor("output", tensor) for tensor in ENGINE_OUTPUTS]
    lines += [
        f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
        for key, value in _list_parameters(engine, folder, kv_cache_fraction).items()
    ]
    return "\n".join(lines) + "\n"


def _list_parameters(
    engine: EngineConfig, folder: Path, kv_cache_fraction: float
) -> dict[str, str]:
    return {
        "gpt_model_type": "inflight_fused_batching",
        "gpt_model_path": str(folder),
        "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
        "executor_worker_path": WORKER,
        "max_beam_width": "1",
        # A reply that began is never paused and computed again: the front model streams it.
        "batch_scheduler_policy": "guaranteed_no_evict",
        "decoding_mode": "top_k_top_p",
        "kv_cache_free_gpu_mem_fraction": f"{kv_cache_fraction:g}",
        # Conversations repeat their beginning. Both need an engine with paged context attention;
        # chunks keep a long prompt from holding up the replies beside it.
        "enable_kv_cache_reuse": _format_flag(engine.paged_context),
        "enable_chunked_context": _format_flag(engine.paged_context),
        "exclude_input_in_output": "true",
        # Log probabilities over the vocabulary, not among the top k (kernels/samplingTopKKernels).
        "normalize_log_probs": "false",
        "cancellation_check_period_ms": "100",
        "stats_check_period_ms": "100",
        "tokenizer_dir": "",
        "xgrammar_tokenizer_info_path": "",
        "guided_decoding_backend": "",
    }


def _format_flag(value: bool) -> str:  # noqa: FBT001  a word for a value
    return "true" if value else "false"


def _render_tensor(kind: str, tensor: EngineTensor) -> str:
    dims = ", ".join(map(str, tensor.dims))
    extras = [
        "optional: true" if kind == "input" and tensor.optional else "",
        "allow_ragged_batch: true" if tensor.ragged else "",
        "reshape { shape: [ ] }" if tensor.scalar else "",
    ]
    return " ".join(
        filter(
            None,
            [
                f"{kind} {{ name: {json.dumps(tensor.name)} data_type: TYPE_{tensor.data_type}",
                f"dims: [ {dims} ]",
                *extras,
                "}",
            ],
        )
    )
