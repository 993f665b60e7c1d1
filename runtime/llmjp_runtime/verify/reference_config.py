"""The reference's config.json, as transformers reads it. What cannot be compared is refused."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.errors import BadConfig, UnsupportedRequest
from llmjp_builder.contracts.judgement.model import parse_architecture, parse_rotary_embedding
from llmjp_runtime.verify.errors import (
    DifferentModel,
    ReferenceInvalid,
    ReferenceUnsupported,
    TransformersMissing,
)

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import LlamaConfig

    from llmjp_builder.contracts.judgement.model import RotaryEmbedding
    from llmjp_runtime.executor.torch.config import CheckpointConfig

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "quantization_config": (None,),
}
"""Keys that may be absent, with the values that mean a plain Llama: all that the executor runs."""

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
_OPTIONAL_SIZES = ("num_key_value_heads", "head_dim")


def read_reference_config(path: Path) -> LlamaConfig:
    """Read `path` (a config.json).

    Raises:
        ReferenceInvalid: not there, not JSON, a key missing or out of range.
        ReferenceUnsupported: not a plain Llama.
        TransformersMissing: transformers is not installed.
    """
    raw = read_object(path)
    _require_llama(path, raw)
    _refuse_unsupported(path, raw)
    for key in (*_SIZES, *_OPTIONAL_SIZES):
        _require_size(path, raw, key, optional=key in _OPTIONAL_SIZES)
    numbers = {
        "rms_norm_eps": _read_positive(path, raw, "rms_norm_eps", 1e-6),
        "rope_theta": _parse_rotary(path, raw).theta,
    }
    config = _parse_config(path, raw | numbers)
    if config.num_attention_heads % config.num_key_value_heads or config.head_dim % 2:
        raise ReferenceInvalid(f"{path}: numbers of heads, or head_dim, are impossible")
    return config


def _require_llama(path: Path, raw: dict[str, Any]) -> None:
    try:
        parse_architecture(raw, str(path))
    except UnsupportedRequest as exc:
        raise ReferenceUnsupported(str(exc)) from exc


def _parse_rotary(path: Path, raw: dict[str, Any]) -> RotaryEmbedding:
    try:
        return parse_rotary_embedding(raw, str(path))
    except UnsupportedRequest as exc:
        raise ReferenceUnsupported(str(exc)) from exc
    except BadConfig as exc:
        raise ReferenceInvalid(str(exc)) from exc


def require_same_model(reference: LlamaConfig, checkpoint: CheckpointConfig, path: Path) -> None:
    """Compare with the config.json of a TensorRT-LLM checkpoint, `path`.

    Raises:
        DifferentModel: naming the first difference. (A larger intermediate_size is padding.)
    """
    rotary = get_rotary_embedding(reference)
    pairs: dict[str, tuple[object, object]] = {
        "vocab_size": (checkpoint.vocab_size, reference.vocab_size),
        "hidden_size": (checkpoint.hidden_size, reference.hidden_size),
        "num_hidden_layers": (checkpoint.num_hidden_layers, reference.num_hidden_layers),
        "num_attention_heads": (checkpoint.num_attention_heads, reference.num_attention_heads),
        "num_key_value_heads": (checkpoint.num_key_value_heads, reference.num_key_value_heads),
        "head_size": (checkpoint.head_size, reference.head_dim),
        "norm_epsilon": (checkpoint.norm_epsilon, reference.rms_norm_eps),
        "rotary_base": (checkpoint.rotary_base, rotary.theta),
        "rotary_scaling": (checkpoint.rotary_scaling, rotary.scaling),
    }
    if checkpoint.intermediate_size < reference.intermediate_size:
        width = (checkpoint.intermediate_size, reference.intermediate_size)
        pairs |= {"intermediate_size": width}
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise DifferentModel(f"{path}: {name} is {ours}, the reference has {theirs}")


def get_rotary_embedding(config: LlamaConfig) -> RotaryEmbedding:
    """Return the rotary embedding; transformers 5 keeps its theta among `rope_parameters`."""
    keys = ("rope_theta", "rope_scaling", "rope_parameters", "max_position_embeddings")
    return parse_rotary_embedding({key: getattr(config, key, None) for key in keys}, "config.json")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

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


def _parse_config(path: Path, raw: dict[str, Any]) -> LlamaConfig:
    try:
        from huggingface_hub.errors import StrictDataclassError
        from transformers import LlamaConfig
    except ImportError as exc:
        raise TransformersMissing(str(exc)) from exc
    given = {key: value for key, value in raw.items() if value is not None}
    try:
        config = LlamaConfig.from_dict(given)
    except (StrictDataclassError, TypeError, ValueError, KeyError) as exc:
        reason = " ".join(str(exc).split())
        raise ReferenceInvalid(f"{path}: transformers refuses it: {reason}") from exc
    config._attn_implementation = "eager"  # noqa: SLF001 the plainest, in every version
    return config


def _refuse_unsupported(path: Path, raw: dict[str, Any]) -> None:
    flat = {key: value for key, value in raw.items() if value is not None}
    for key, neutral in _NEUTRAL.items():
        if (value := flat.get(key, neutral[0])) not in neutral:
            raise ReferenceUnsupported(f"{path}: not supported: {key} {json.dumps(value)}")


def _read_positive(path: Path, raw: dict[str, Any], key: str, default: float) -> float:
    value = default if raw.get(key) is None else raw[key]
    if type(value) not in {int, float} or not 0 < value < math.inf:
        raise ReferenceInvalid(f"{path}: {key} is {json.dumps(value)}, expected a number > 0")
    return float(value)


def _require_size(path: Path, raw: dict[str, Any], key: str, *, optional: bool) -> None:
    value = raw.get(key)
    if value is None and optional:
        return
    if type(value) is not int or value < 1:
        raise ReferenceInvalid(f"{path}: {key} is {json.dumps(value)}, expected an int >= 1")
