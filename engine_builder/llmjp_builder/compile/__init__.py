"""A TensorRT-LLM checkpoint becomes TensorRT engines: options, command, run, check.

`engine_inputs` says what the engines will depend on, before there is a checkpoint; `compile_engine`
builds them. TensorRT-LLM is never imported: its `trtllm-build` runs as a process of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_builder.compile.engine import EngineResult, compile_engine
from llmjp_builder.compile.gpu import Gpu, detect_gpus
from llmjp_builder.compile.model import engine_model
from llmjp_builder.compile.options import CompileOptions, compile_options
from llmjp_builder.compile.versions import Versions, installed_versions
from llmjp_builder.contracts.spec import EngineInputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.contracts.spec import BuildSpec

__all__ = [
    "CompileOptions",
    "EngineResult",
    "Gpu",
    "Versions",
    "compile_engine",
    "compile_options",
    "detect_gpus",
    "engine_inputs",
    "engine_model",
    "installed_versions",
]


def engine_inputs(
    document: Mapping[str, Any], spec: BuildSpec, gpu: Gpu, versions: Versions
) -> EngineInputs:
    """What an engine's key is made of. Pure.

    Args:
        document: config.json of the checkpoint to be compiled (`convert.config_json.config_json`).
        spec: its limits and options.
        gpu: what it is built on; the number of GPUs does not matter.
        versions: what it is built with.

    Raises:
        InvalidSpec, Unsupported, UnsupportedGpu: no engine can be built so; all reasons are named.
    """
    options = compile_options(spec, engine_model(document, "config.json"), gpu)
    options.require_accepted()
    return EngineInputs(
        options=options.values,
        gpu_product=gpu.product,
        compute_capability=gpu.compute_capability,
        tensorrt_llm=versions.tensorrt_llm,
        tensorrt=versions.tensorrt,
    )
