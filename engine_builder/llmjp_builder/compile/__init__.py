"""A TensorRT-LLM checkpoint becomes TensorRT engines: options, command, run, check.

`decide_engine_inputs` returns what the engines will depend on, before there is a checkpoint;
`compile_engine` builds them. TensorRT-LLM is never imported: its `trtllm-build` runs as a process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_builder.compile.engine import EngineResult, compile_engine
from llmjp_builder.compile.gpu import Gpu, detect_gpus
from llmjp_builder.compile.model import parse_compiler_model
from llmjp_builder.compile.options import CompileOptions, decide_options
from llmjp_builder.compile.versions import Versions, detect_versions
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
    "decide_engine_inputs",
    "decide_options",
    "detect_gpus",
    "detect_versions",
    "parse_compiler_model",
]


def decide_engine_inputs(
    document: Mapping[str, Any], spec: BuildSpec, gpu: Gpu, versions: Versions
) -> EngineInputs:
    """Return everything that an engine's key is made of. Pure.

    Args:
        document: config.json of the checkpoint to be compiled (`convert.checkpoint_config`).
        spec: limits and options.
        gpu: the kind to build on; the number of GPUs does not matter.
        versions: of TensorRT-LLM and TensorRT.

    Raises:
        InvalidSpec, UnsupportedRequest, UnsupportedGpu: no such engine can be built; the
            message names every obstacle.
    """
    options = decide_options(spec, parse_compiler_model(document, "config.json"), gpu)
    options.require_accepted()
    return EngineInputs(
        options=options.values,
        gpu_product=gpu.product,
        compute_capability=gpu.compute_capability,
        tensorrt_llm=versions.tensorrt_llm,
        tensorrt=versions.tensorrt,
    )
