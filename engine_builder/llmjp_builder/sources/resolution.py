"""A pinned source in a few bytes: digest, commit, size, and what planning needs of config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llmjp_builder.checkpoint import CONFIG
from llmjp_builder.convert.model_config import parse_model_config
from llmjp_builder.disk import read_json_object
from llmjp_builder.errors import BadConfig
from llmjp_builder.sources.hub import Hub
from llmjp_builder.spec import Resolution, canonical_json

if TYPE_CHECKING:
    from llmjp_builder.sources.resolve import ResolvedSource

PLANNED_BY: Final = (
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
_MOST: Final = 3000
"""Bytes of the JSON; a Job's termination message has room for 4096 in all."""


def resolution_of(
    resolved: ResolvedSource, *, endpoint: str | None = None, token: str | None = None
) -> Resolution:
    """What a Job that resolves has to say.

    Args:
        resolved: the source.
        endpoint: of the hub that it was resolved at.
        token: for the hub.

    Raises:
        Unsupported, BadConfig: config.json describes no model that can be built.
        BuilderError: config.json cannot be read.
    """
    where, document = _config(resolved, endpoint, token)
    parse_model_config(document, where)
    config = {name: document[name] for name in PLANNED_BY if document.get(name) is not None}
    if len(canonical_json(config).encode()) > _MOST:
        raise BadConfig(f"{where}: its entries about the model's shape are longer than any model's")
    return Resolution(
        digest=resolved.digest,
        bytes=sum(record.size for record in resolved.files.values()),
        config=config,
        revision=resolved.source.revision,
    )


def _config(
    resolved: ResolvedSource, endpoint: str | None, token: str | None
) -> tuple[str, dict[str, Any]]:
    source = resolved.source
    if source.path is not None:
        path = Path(source.path) / CONFIG
        return str(path), read_json_object(path)
    assert source.repository is not None, "one of the two is there"
    where = f"{source.repository}: {CONFIG}"
    hub = Hub(endpoint=endpoint or "", token=token)
    try:
        document = json.loads(hub.read(hub.listing(source.repository, source.revision), CONFIG))
    except (ValueError, RecursionError) as exc:
        raise BadConfig(f"{where}: no JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise BadConfig(f"{where}: must be a JSON object")
    return where, document
