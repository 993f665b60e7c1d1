"""The model that is compiled, as config.json of a TensorRT-LLM checkpoint describes it. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.errors import BadConfig, UnsupportedRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_UNSCALED = {"su", "longrope", "llama3"}
"""Types of RoPE scaling whose factor does not lengthen the context (tensorrt_llm/builder.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompilerModel:
    """The model as the compiler sees it; all sizes are the whole model's, not a rank's."""

    dtype: str
    weights_fp8: bool
    kv_fp8: bool
    tensor_parallel: int
    pipeline_parallel: int
    max_positions: int
    """Tokens that the position encoding covers, RoPE scaling included."""
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_size: int

    @property
    def world(self) -> int:
        """Number of ranks."""
        return self.tensor_parallel * self.pipeline_parallel

    def list_widths(self, tensor_parallel: int) -> Iterator[tuple[str, int, bool]]:
        """Yield name, size per rank and whether it can be padded, for every GEMM dimension."""
        heads = self.num_heads // tensor_parallel
        kv_heads = max(1, self.num_kv_heads // tensor_parallel)
        yield "hidden_size", self.hidden_size, False
        yield "query, key and value width", (heads + 2 * kv_heads) * self.head_size, False
        yield "attention output width", heads * self.head_size, False
        yield "intermediate_size", self.intermediate_size // tensor_parallel, True


def parse_compiler_model(document: Mapping[str, Any], where: str) -> CompilerModel:
    """Parse config.json of a TensorRT-LLM checkpoint.

    Args:
        document: the parsed JSON.
        where: the file, for messages.

    Raises:
        BadConfig: a field is missing or of another type.
        UnsupportedRequest: another architecture or quantisation than the builder compiles.
    """
    architecture = _get_text(document, "architecture", where)
    if architecture != "LlamaForCausalLM":
        raise UnsupportedRequest(
            f"{where}: architecture {architecture}; only LlamaForCausalLM can be compiled"
        )
    mapping = _get_object(document, "mapping", where)
    quantization = _get_object(document, "quantization", where)
    for name in ("quant_algo", "kv_cache_quant_algo"):
        if quantization.get(name) not in {None, "FP8"}:
            raise UnsupportedRequest(
                f"{where}: quantization.{name} is {quantization[name]!r}; expected null or FP8"
            )
    heads = _get_size(document, "num_attention_heads", where)
    return CompilerModel(
        dtype=_get_text(document, "dtype", where),
        weights_fp8=quantization.get("quant_algo") == "FP8",
        kv_fp8=quantization.get("kv_cache_quant_algo") == "FP8",
        tensor_parallel=_get_size(mapping, "tp_size", f"{where}: mapping"),
        pipeline_parallel=_get_size(mapping, "pp_size", f"{where}: mapping"),
        max_positions=_deduce_positions(document, where),
        hidden_size=_get_size(document, "hidden_size", where),
        intermediate_size=_get_size(document, "intermediate_size", where),
        num_heads=heads,
        num_kv_heads=_get_size(document, "num_key_value_heads", where),
        head_size=_get_size(document, "head_size", where),
    )


def _deduce_positions(document: Mapping[str, Any], where: str) -> int:
    """Return the longest context, as `_init_max_seq_len` of tensorrt_llm/builder.py deduces it."""
    positions = _get_size(document, "max_position_embeddings", where)
    scaling = document.get("rotary_scaling")
    if not isinstance(scaling, dict):
        return positions
    kind = scaling.get("type", scaling.get("rope_type"))
    factor = scaling.get("factor", 1.0)
    if kind in _UNSCALED or not isinstance(factor, int | float) or not math.isfinite(factor):
        return positions
    return math.ceil(positions * factor)


def _get_size(document: Mapping[str, Any], name: str, where: str) -> int:
    value = document.get(name)
    if type(value) is not int or value < 1:
        raise BadConfig(f"{where}: {name} must be a positive integer, found {value!r}")
    return value


def _get_text(document: Mapping[str, Any], name: str, where: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise BadConfig(f"{where}: {name} must be a string, found {value!r}")
    return value


def _get_object(document: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise BadConfig(f"{where}: {name} must be an object, found {value!r}")
    return value
