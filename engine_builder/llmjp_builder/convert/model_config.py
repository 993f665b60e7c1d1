"""config.json of a Hugging Face checkpoint, parsed into what the conversion needs. Pure.

Defaults for absent keys are those of `transformers.LlamaConfig`; a size is never guessed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.errors import BadConfig, UnsupportedRequest
from llmjp_builder.contracts.judgement.model import parse_architecture, parse_rotary_embedding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.contracts.judgement.rope import RopeScaling

_MAX_WIDTH = 1 << 20
"""Limit for every size except the vocabulary: one row of a weight stays below a few megabytes."""
_MAX_VOCAB = 1 << 24
_MAX_LAYERS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The shape of a decoder-only Llama."""

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    """May differ from hidden_size / num_heads."""
    vocab_size: int
    """Rows of the embedding table; more than the tokenizer has."""
    max_position_embeddings: int
    norm_epsilon: float
    rope_theta: float
    rope_scaling: Mapping[str, Any] | None
    """As in the checkpoint; None for plain RoPE."""
    scaled_rope: RopeScaling | None
    """The same, parsed."""
    hidden_act: str
    tied_embeddings: bool
    """True where the output projection is the embedding table."""
    stored_dtype: str | None
    """`bfloat16`, `float16` or `float32`; None if config.json does not say."""


def parse_model_config(document: Mapping[str, Any], where: str) -> ModelConfig:
    """Parse config.json of a Hugging Face checkpoint.

    Args:
        document: the parsed JSON.
        where: the file's path, for messages.

    Raises:
        UnsupportedRequest: another architecture, or a variant of Llama that is not converted.
        BadConfig: a value is missing, mistyped or impossible.
    """
    architecture = parse_architecture(document, where)
    _refuse_variants(document, where)
    fields = _ConfigFields(document, where)
    hidden, heads = fields.read_size("hidden_size"), fields.read_size("num_attention_heads")
    kv_heads = fields.read_size("num_key_value_heads", default=heads)
    if heads % kv_heads:
        raise BadConfig(
            f"{where}: num_attention_heads {heads} is not a multiple of "
            f"num_key_value_heads {kv_heads}"
        )
    rotary = parse_rotary_embedding(document, where)
    return ModelConfig(
        architecture=architecture,
        hidden_size=hidden,
        intermediate_size=fields.read_size("intermediate_size"),
        num_layers=fields.read_size("num_hidden_layers", limit=_MAX_LAYERS),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_size=_parse_head_size(fields, hidden, heads),
        vocab_size=fields.read_size("vocab_size", limit=_MAX_VOCAB),
        max_position_embeddings=fields.read_size("max_position_embeddings", limit=1 << 31),
        norm_epsilon=fields.read_positive("rms_norm_eps", default=1e-6),
        rope_theta=rotary.theta,
        rope_scaling=rotary.document,
        scaled_rope=rotary.scaling,
        hidden_act="silu",
        tied_embeddings=fields.read_flag("tie_word_embeddings"),
        stored_dtype=_parse_stored_dtype(document, where),
    )


@dataclass(frozen=True, slots=True)
class _ConfigFields:
    """Typed access to a JSON object; a key whose value is null counts as absent."""

    document: Mapping[str, Any]
    where: str

    def read_size(self, key: str, *, default: int | None = None, limit: int = _MAX_WIDTH) -> int:
        value = self.document.get(key)
        if value is None:
            value = default
        if value is None:
            raise BadConfig(f"{self.where}: {key} is missing")
        if type(value) is not int or not 0 < value <= limit:
            raise BadConfig(
                f"{self.where}: {key} must be an integer from 1 to {limit}, found {value!r}"
            )
        return value

    def read_positive(self, key: str, *, default: float) -> float:
        value = self.document.get(key)
        if value is None:
            return default
        if type(value) not in {int, float} or not (0 < value <= sys.float_info.max):
            raise BadConfig(f"{self.where}: {key} must be a positive number, found {value!r}")
        return float(value)

    def read_flag(self, key: str) -> bool:
        value = self.document.get(key)
        if value is None:
            return False
        if type(value) is not bool:
            raise BadConfig(f"{self.where}: {key} must be true or false, found {value!r}")
        return value


def _refuse_variants(document: Mapping[str, Any], where: str) -> None:
    for key in ("attention_bias", "mlp_bias"):
        if document.get(key) is not None and document[key] is not False:
            raise UnsupportedRequest(
                f"{where}: {key} is {document[key]!r}; only models without biases"
            )
    if (activation := document.get("hidden_act", "silu")) != "silu":
        raise UnsupportedRequest(f"{where}: hidden_act is {activation!r}; only silu is converted")
    if document.get("quantization_config") is not None:
        raise UnsupportedRequest(
            f"{where}: quantization_config is set; start from the unquantised checkpoint"
        )


def _parse_head_size(fields: _ConfigFields, hidden: int, heads: int) -> int:
    if fields.document.get("head_dim") is not None:
        size = fields.read_size("head_dim")
    elif hidden % heads:
        raise BadConfig(
            f"{fields.where}: hidden_size {hidden} is not a multiple of "
            f"num_attention_heads {heads}, and there is no head_dim"
        )
    else:
        size = hidden // heads
    if size % 2:
        raise BadConfig(
            f"{fields.where}: heads have an odd size, {size}; the rotary embedding needs pairs"
        )
    return size


def _parse_stored_dtype(document: Mapping[str, Any], where: str) -> str | None:
    found = document.get("dtype")
    match found if found is not None else document.get("torch_dtype"):
        case None | "bfloat16" | "float16" | "float32" as known:
            return known
        case other:
            raise UnsupportedRequest(
                f"{where}: dtype is {other!r}; supported: bfloat16, float16, float32"
            )
