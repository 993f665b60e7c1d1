"""Checks of the engine folder that `trtllm-build` leaves against what was requested."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.errors import BuilderError, CompileFailed, VersionMismatch
from llmjp_builder.store.files import os_errors, read_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmjp_builder.compile.model import CompilerModel
    from llmjp_builder.compile.options import CompileOptions
    from llmjp_builder.compile.versions import Versions

CONFIG = "config.json"

_PRETRAINED: Mapping[str, type] = {
    "architecture": str,
    "num_hidden_layers": int,
    "num_attention_heads": int,
    "vocab_size": int,
    "hidden_size": int,
    "dtype": str,
    "mapping": dict,
    "quantization": dict,
}
_PLUGINS = (
    "gpt_attention_plugin",
    "remove_input_padding",
    "paged_kv_cache",
    "tokens_per_block",
    "context_fmha",
    "use_paged_context_fmha",
    "lora_plugin",
)
"""Settings that serving reads without a default (cpp/tensorrt_llm/runtime/gptJsonConfig.cpp)."""

_LIMITS = ("max_batch_size", "max_beam_width", "max_seq_len")
"""The options that requests are checked against at run time."""


def name_engine_file(rank: int) -> str:
    """Return the file name that serving expects for a rank's engine."""
    return f"rank{rank}.engine"


def list_missing_engines(folder: Path, world: int) -> list[str]:
    """Return the names of engine files that are missing or empty."""
    names = [name_engine_file(rank) for rank in range(world)]
    return [name for name in names if not _has_bytes(folder / name)]


def check_engines(
    folder: Path, model: CompilerModel, versions: Versions, options: CompileOptions
) -> tuple[int, ...]:
    """Check the engines and return the size of each in bytes, by rank.

    Raises:
        CompileFailed: an engine is missing, or config.json lacks what serving reads, or differs
            from what was requested.
        VersionMismatch: they were built by another version than the detected one.
    """
    if missing := list_missing_engines(folder, model.world):
        raise CompileFailed(f"{folder / missing[0]}: trtllm-build did not write it")
    path = folder / CONFIG
    try:
        config = read_json_object(path)
    except BuilderError as exc:
        raise CompileFailed(f"{path}: no usable description of the engines: {exc}") from exc
    _check_config(config, model, options, str(path))
    if (built := config.get("version")) != versions.tensorrt_llm:
        raise VersionMismatch(
            f"{path}: built by TensorRT-LLM {built}, but {versions.tensorrt_llm} is installed for "
            "this interpreter: trtllm-build belongs to another installation"
        )
    return tuple((folder / name_engine_file(rank)).stat().st_size for rank in range(model.world))


def _check_config(
    config: Mapping[str, Any], model: CompilerModel, options: CompileOptions, where: str
) -> None:
    pretrained = _get_object(config, "pretrained_config", where)
    build = _get_object(config, "build_config", where)
    for name, kind in _PRETRAINED.items():
        if not isinstance(pretrained.get(name), kind):
            raise CompileFailed(f"{where}: pretrained_config.{name} must be {kind.__name__}")
    plugins = _get_object(build, "plugin_config", where)
    _get_object(build, "lora_config", where)
    if absent := [name for name in _PLUGINS if name not in plugins]:
        raise CompileFailed(f"{where}: build_config.plugin_config.{absent[0]} is missing")
    mapping = pretrained["mapping"]
    for name, found, wanted in (
        ("tp_size", mapping.get("tp_size"), model.tensor_parallel),
        ("pp_size", mapping.get("pp_size", 1), model.pipeline_parallel),
        ("cp_size", mapping.get("cp_size", 1), 1),
        ("dtype", pretrained["dtype"], model.dtype),
        *((name, build.get(name), options.values[name]) for name in _LIMITS),
    ):
        if found != wanted:
            raise CompileFailed(f"{where}: {name} is {found!r}, but {wanted!r} was requested")


def _get_object(config: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    value = config.get(name)
    if not isinstance(value, dict):
        raise CompileFailed(f"{where}: {name} must be an object")
    return value


def _has_bytes(path: Path) -> bool:
    with os_errors(path):
        return path.is_file() and path.stat().st_size > 0
