"""config.json of the reference, read anew.

A reference that shared the converter's reading of it would share its mistakes. Defaults are those
of `transformers.LlamaConfig`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_runtime.verify.errors import DifferentModel, ReferenceInvalid, ReferenceUnsupported

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_runtime.executor.torch.config import CheckpointConfig

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "quantization_config": (None,),
    "rope_scaling.rope_type": (None, "default"),
    "rope_scaling.type": (None, "default"),
    "rope_parameters.rope_type": (None, "default"),
}
"""Keys that may be absent, with the values that mean a plain Llama."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceConfig:
    """The shape of a Llama, in Hugging Face's words."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool

    def require_same(self, checkpoint: CheckpointConfig, path: Path) -> None:
        """Compare with the config.json of a TensorRT-LLM checkpoint, `path`.

        Raises:
            DifferentModel: naming the first difference. (A larger intermediate_size is padding.)
        """
        pairs: dict[str, tuple[float, float]] = {
            "vocab_size": (checkpoint.vocab_size, self.vocab_size),
            "hidden_size": (checkpoint.hidden_size, self.hidden_size),
            "num_hidden_layers": (checkpoint.num_hidden_layers, self.num_hidden_layers),
            "num_attention_heads": (checkpoint.num_attention_heads, self.num_attention_heads),
            "num_key_value_heads": (checkpoint.num_key_value_heads, self.num_key_value_heads),
            "head_size": (checkpoint.head_size, self.head_dim),
            "norm_epsilon": (checkpoint.norm_epsilon, self.rms_norm_eps),
            "rotary_base": (checkpoint.rotary_base, self.rope_theta),
        }
        if checkpoint.intermediate_size < self.intermediate_size:
            width = (checkpoint.intermediate_size, self.intermediate_size)
            pairs |= {"intermediate_size": width}
        for name, (ours, theirs) in pairs.items():
            if ours != theirs:
                raise DifferentModel(f"{path}: {name} is {ours}, the reference has {theirs}")


def read_reference_config(path: Path) -> ReferenceConfig:
    """`path` (a config.json), parsed.

    Raises:
        ReferenceInvalid: not there, not JSON, a key missing or out of range.
        ReferenceUnsupported: not a plain Llama.
    """
    raw = read_object(path)
    if raw.get("architectures") != ["LlamaForCausalLM"]:
        found = json.dumps(raw.get("architectures"))
        raise ReferenceUnsupported(f"{path}: architectures is {found}, expected LlamaForCausalLM")
    fields = _Fields(path, _flat(raw))
    fields.refuse_unsupported()
    hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    config = ReferenceConfig(
        vocab_size=fields.size("vocab_size"),
        hidden_size=hidden,
        intermediate_size=fields.size("intermediate_size"),
        num_hidden_layers=fields.size("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=fields.size("num_key_value_heads", heads),
        head_dim=fields.size("head_dim", hidden // heads),
        rms_norm_eps=fields.positive("rms_norm_eps", 1e-6),
        rope_theta=fields.positive("rope_theta", 10000.0),
        tie_word_embeddings=raw.get("tie_word_embeddings") is True,
    )
    if config.num_attention_heads % config.num_key_value_heads or config.head_dim % 2:
        raise ReferenceInvalid(f"{path}: numbers of heads, or head_dim, are impossible")
    return config


def _flat(raw: dict[str, Any]) -> dict[str, Any]:
    """Without nulls; nested RoPE settings by dotted keys: transformers 5 has theta among them."""
    flat = {key: value for key, value in raw.items() if value is not None}
    for group in ("rope_scaling", "rope_parameters"):
        if isinstance(raw.get(group), dict):
            flat |= {f"{group}.{key}": value for key, value in raw[group].items()}
    theta = flat.get("rope_parameters.rope_theta", flat.get("rope_theta", 10000.0))
    return flat | {"rope_theta": theta}


@dataclass(frozen=True, slots=True)
class _Fields:
    path: Path
    raw: dict[str, Any]

    def refuse_unsupported(self) -> None:
        for key, neutral in _NEUTRAL.items():
            if (value := self.raw.get(key, neutral[0])) not in neutral:
                raise ReferenceUnsupported(f"{self.path}: not supported: {key} {json.dumps(value)}")

    def size(self, key: str, default: int | None = None) -> int:
        value = self.raw.get(key) or default
        if type(value) is not int or value < 1:
            raise ReferenceInvalid(
                f"{self.path}: {key} is {json.dumps(self.raw.get(key))}, expected an int >= 1"
            )
        return value

    def positive(self, key: str, default: float) -> float:
        value = self.raw.get(key, default)
        if type(value) not in {int, float} or not 0 < value < math.inf:
            raise ReferenceInvalid(
                f"{self.path}: {key} is {json.dumps(value)}, expected a number > 0"
            )
        return float(value)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ReferenceInvalid: there is none.
    """
    try:
        raw = json.loads(path.read_bytes())
    except OSError as exc:
        raise ReferenceInvalid(f"{path}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise ReferenceInvalid(f"{path}: is not JSON") from exc
    if not isinstance(raw, dict):
        raise ReferenceInvalid(f"{path}: is not a JSON object")
    return raw
