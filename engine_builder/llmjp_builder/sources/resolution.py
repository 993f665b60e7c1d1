"""A pinned source in a few bytes: digest, commit, size, and what planning needs of config.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmjp_builder.contracts.errors import BadConfig
from llmjp_builder.contracts.judgement.model import require_served_model
from llmjp_builder.contracts.spec import Resolution, to_canonical_json
from llmjp_builder.convert.model_config import parse_model_config
from llmjp_builder.sources.selection import CONFIG
from llmjp_builder.store.files import parse_json_object
from llmjp_builder.tokenizer import OPTIONAL, REQUIRED, judge_tokenizer

if TYPE_CHECKING:
    from llmjp_builder.sources.pinning import SourcePin

PLANNING_KEYS: Final = (
    "architectures",
    "attention_bias",
    "dtype",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "mlp_bias",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "partial_rotary_factor",
    "quantization_config",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "tie_word_embeddings",
    "torch_dtype",
    "vocab_size",
)
"""What `convert.model_config` reads; a test holds the two together."""
_MAX_BYTES: Final = 3000
"""Bytes of the JSON; a Job's termination message has room for 4096 in all."""
_MAX_DEPTH: Final = 8
"""Objects and lists within each other; the scaling of RoPE has three, for a kind of layer each."""


def make_resolution(pinned: SourcePin) -> Resolution:
    """Return the termination message of a resolve Job, of a source that some backend serves.

    What depends on the backend is judged by `config`.

    Raises:
        UnsupportedRequest, BadConfig: config.json and the tokenizer's files describe no model
            that can be built and served.
        SourceChanged: one of these files was modified after it was hashed.
        BuilderError: one of them cannot be read.
    """
    resolved = pinned.resolved
    place = str(resolved.source.path or resolved.source.repository)
    where = f"{place}/{CONFIG}"
    document = parse_json_object(pinned.read_file(CONFIG), where)
    planned = extract_planning_config(document, where)
    require_served_model(document, where)
    names = [name for name in (*REQUIRED, *OPTIONAL) if name in resolved.files]
    texts = {name: pinned.read_file(name) for name in names}
    judge_tokenizer(texts, place, planned["vocab_size"])
    return Resolution(
        digest=resolved.digest,
        bytes=sum(record.size for record in resolved.files.values()),
        config=planned,
        revision=resolved.source.revision,
    )


def extract_planning_config(document: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the part of config.json that `convert.model_config` reads (pure).

    Raises:
        UnsupportedRequest, BadConfig: it describes no model that can be built.
    """
    parsed = parse_model_config(document, where)
    part = {name: document[name] for name in PLANNING_KEYS if document.get(name) is not None}
    if not part.get("architectures"):
        part["architectures"] = [parsed.architecture]  # as `model_type` tells it
    if _is_deep(part, _MAX_DEPTH):
        raise BadConfig(f"{where}: its entries about the model's shape are nested too deeply")
    try:
        size = len(to_canonical_json(part).encode())
    except ValueError as exc:
        raise BadConfig(f"{where}: holds text that is none: {exc}") from exc
    if size > _MAX_BYTES:
        raise BadConfig(f"{where}: its entries about the model's shape are longer than any model's")
    return part


def _is_deep(value: object, levels: int) -> bool:
    match value:
        case dict():
            inner = list(value.values())
        case list():
            inner = value
        case _:
            return False
    return levels == 0 or any(_is_deep(item, levels - 1) for item in inner)
