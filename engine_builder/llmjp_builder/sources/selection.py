"""Selection of a checkpoint's files. Pure, and the same for folders and repositories."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BadConfig, BadTensors, MissingFile, UnsupportedRequest
from llmjp_builder.tokenizer import OPTIONAL, REQUIRED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def select_files(
    present: Collection[str], read_index: Callable[[], bytes], where: str
) -> tuple[str, ...]:
    """Return the names of the files that a build reads: config, weights, tokenizer.

    Model cards, pickled or GGUF weights and other formats' folders are left out.

    Args:
        present: names of all files there, relative to the top.
        read_index: the contents of `INDEX`; called only if it is present.
        where: the folder or repository, for messages.

    Raises:
        MissingFile: a file without which no artefact can be built is not there.
        BadConfig: the index is malformed.
        BadTensors: both a single weight file and an index are there.
        UnsupportedRequest: the weights are in another format.
    """
    required = (CONFIG, *REQUIRED)
    if absent := [name for name in required if name not in present]:
        code = sorted(n for n in present if n.startswith("tokenization") and n.endswith(".py"))
        own = f"; {code[0]} is code of the checkpoint, which is not executed" if code else ""
        raise MissingFile(
            f"{where}: no {absent[0]}; a checkpoint to build from has {required}{own}"
        )
    optional = tuple(name for name in OPTIONAL if name in present)
    return (CONFIG, *_select_weights(present, read_index, where), *REQUIRED, *optional)


def _select_weights(
    present: Collection[str], read_index: Callable[[], bytes], where: str
) -> tuple[str, ...]:
    match SINGLE in present, INDEX in present:
        case True, True:
            raise BadTensors(
                f"{where}: has both {SINGLE} and {INDEX}; which one holds cannot be known"
            )
        case True, False:
            return (SINGLE,)
        case False, True:
            shards = _parse_shards(read_index(), f"{where}: {INDEX}")
            if absent := [shard for shard in shards if shard not in present]:
                raise MissingFile(
                    f"{where}: {INDEX} names {len(absent)} file(s) that are not there, "
                    f"first {absent[0]}"
                )
            return (INDEX, *shards)
        case _:
            other = sorted(name for name in present if name.endswith((".bin", ".gguf", ".pth")))
            if other:
                raise UnsupportedRequest(
                    f"{where}: has {other[0]}, but only safetensors are read; "
                    "save the model as safetensors"
                )
            raise MissingFile(f"{where}: neither {SINGLE} nor {INDEX}: no weights to build from")


def _parse_shards(index: bytes, where: str) -> tuple[str, ...]:
    """Return the weight files that an index lists; each a plain name at the top."""
    try:
        document = json.loads(index)
    except (ValueError, RecursionError) as exc:
        raise BadConfig(f"{where}: not valid JSON: {exc}") from exc
    placed = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(placed, dict) or not placed:
        raise BadConfig(f"{where}: weight_map must be an object that names at least one tensor")
    for tensor, shard in placed.items():
        plain = isinstance(shard, str) and PurePosixPath(shard).name == shard
        if not plain or not shard.isprintable() or not shard.endswith(".safetensors"):
            raise BadConfig(
                f"{where}: {tensor}: expected the name of a safetensors file beside it, "
                f"found {shard!r}"
            )
    return tuple(sorted(set(placed.values())))
