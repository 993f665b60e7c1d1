"""Limits of an executor whose engine loads a Hugging Face folder by itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmjp_runtime.errors import ArtefactInvalid, OptionInvalid
from llmjp_runtime.executor.protocol import ExecutorLimits

if TYPE_CHECKING:
    from pathlib import Path


def read_limits(checkpoint: Path, max_batch_size: int, max_context: int | None) -> ExecutorLimits:
    """Return the limits that config.json and the settings give.

    Raises:
        ArtefactInvalid: config.json is missing or lacks a value.
        OptionInvalid: `max_context` is longer than the model's.
    """
    path = checkpoint / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
        longest, vocab_size = int(config["max_position_embeddings"]), int(config["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        what = f"has no {exc}" if isinstance(exc, KeyError) else f"cannot be read: {exc}"
        raise ArtefactInvalid(f"{path} {what}: build the artefact again") from exc
    if max_context is not None and not 1 <= max_context <= longest:
        raise OptionInvalid(f"max_context is {max_context}, expected 1 to {longest}")
    return ExecutorLimits(
        max_context=max_context or longest, vocab_size=vocab_size, max_batch_size=max_batch_size
    )
