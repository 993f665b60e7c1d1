"""Judgement of config.json: rotary embedding and the checkpoint's own code, by backend. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from llmjp_builder.contracts.errors import BadConfig, UnsupportedRequest
from llmjp_builder.contracts.judgement.rope import (
    list_lost_settings,
    parse_rope_scaling,
    require_whole_heads,
)
from llmjp_builder.contracts.spec import Backend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.contracts.judgement.rope import RopeScaling

LLAMA = "LlamaForCausalLM"
"""To add an architecture: put its rules under `convert/families/`, its name into
`planner.FAMILIES`, and its spellings here."""
_SPELLINGS = (LLAMA, "LLaMAForCausalLM")
"""The second is that of the first checkpoints of Llama 1, and of llm-jp v1 and v2."""

_CODE = ("AutoConfig", "AutoModel", "AutoModelForCausalLM")
"""Classes of `auto_map` by which a checkpoint computes with code of its own."""


def parse_architecture(document: Mapping[str, Any], where: str) -> str:
    """Return the architecture of config.json, as TensorRT-LLM spells it.

    Where `architectures` is missing, `model_type` tells it.

    Raises:
        UnsupportedRequest: another one, or none.
    """
    match document.get("architectures"):
        case [str(name)] if name in _SPELLINGS:
            return LLAMA
        case None | [] if document.get("model_type") == "llama":
            return LLAMA
        case found:
            raise UnsupportedRequest(
                f"{where}: architectures is {found!r}; supported: {LLAMA} "
                "(all dense llm-jp-3 models)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryEmbedding:
    """What config.json says of the rotary embedding."""

    theta: float
    document: Mapping[str, Any] | None
    """The object that scales it, without the theta of transformers 5; None for a plain one."""
    scaling: RopeScaling | None
    """The same, parsed."""


def parse_rotary_embedding(document: Mapping[str, Any], where: str) -> RotaryEmbedding:
    """Parse config.json's keys of transformers 4 (`rope_scaling`) and 5 (`rope_parameters`).

    Raises:
        UnsupportedRequest: a kind that is not computed here.
        BadConfig: a number is missing or impossible, or the two keys contradict each other.
    """
    found = {key: document.get(key) for key in ("rope_scaling", "rope_parameters")}
    for key, value in found.items():
        if value is not None and not isinstance(value, dict):
            raise BadConfig(f"{where}: {key} must be an object, found {value!r}")
    require_whole_heads(document, where)
    theta = _read_theta(document, 10000.0, where)
    theta = _read_theta(found["rope_parameters"] or {}, theta, f"{where}: rope_parameters")
    positions = document.get("max_position_embeddings")
    if type(positions) is not int or positions < 1:
        positions = 1  # whoever needs the size refuses the document
    parsed = {
        key: parse_rope_scaling(value, f"{where}: {key}", max_positions=positions, theta=theta)
        for key, value in found.items()
        if value
    }
    if len(set(parsed.values())) > 1:
        raise BadConfig(
            f"{where}: rope_scaling and rope_parameters contradict each other: leave one out"
        )
    key = "rope_parameters" if "rope_parameters" in parsed else "rope_scaling"
    scaling = parsed.get(key)
    if scaling is None:
        return RotaryEmbedding(theta=theta, document=None, scaling=None)
    kept = dict(found[key] or {})
    if key == "rope_parameters":
        kept.pop("rope_theta", None)
    return RotaryEmbedding(theta=theta, document=kept, scaling=scaling)


def require_served_model(
    document: Mapping[str, Any], where: str, backend: Backend | None = None
) -> None:
    """Raise where a backend would not serve the model, or would serve another one.

    Args:
        document: config.json of the Hugging Face checkpoint.
        where: its path, for messages.
        backend: who serves it; None asks for what none of them does.

    Raises:
        UnsupportedRequest: the message names the key.
        BadConfig: a value is missing or impossible.
    """
    own = document.get("auto_map")
    if isinstance(own, dict) and (named := [key for key in _CODE if own.get(key)]):
        raise UnsupportedRequest(
            f"{where}: auto_map has {named[0]} {own[named[0]]!r}: code of the checkpoint is not "
            "executed; if the model is a plain Llama, remove the key"
        )
    rotary = parse_rotary_embedding(document, where)
    if rotary.scaling is None or rotary.document is None or backend is None:
        return
    match backend:
        case Backend.TORCH | Backend.VLLM:
            return
        case Backend.TENSORRT | Backend.PYTORCH:
            lost = next(iter(list_lost_settings(rotary.document, rotary.scaling)), None)
        case unknown:
            assert_never(unknown)
    if lost is not None:
        raise UnsupportedRequest(
            f"{where}: scaling of the rotary embedding {dict(rotary.document)!r}: {lost}, and "
            f"TensorRT-LLM (backend {backend}) would compute another model; use backend torch"
        )


def _read_theta(document: Mapping[str, Any], default: float, where: str) -> float:
    value = document.get("rope_theta")
    if value is None:
        return default
    if type(value) not in {int, float} or not 0 < value <= _LARGEST_THETA:
        raise BadConfig(f"{where}: rope_theta must be a positive number, found {value!r}")
    return float(value)


_LARGEST_THETA = 1e30
"""Its powers stay finite in float32."""
