"""Downloaded sources: `<store>/sources/<digest>/`, complete once `source.json` is there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping  # noqa: TC003 - `decode` resolves annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.codec import decode, encode
from llmjp_builder.contracts.errors import BadArtefact, BuilderError, InvalidSpec
from llmjp_builder.contracts.spec import FileRecord, Source, to_canonical_json

if TYPE_CHECKING:
    from pathlib import Path

SOURCE_NAME = "source.json"
"""Written last: a downloaded source is complete when this file exists."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSource:
    """A source pinned to exact files: its meaning cannot change any more."""

    source: Source
    """A repository at a full commit id, or a folder."""
    digest: str
    """20 hex digits that stand for the names and contents of `files`, wherever they are."""
    files: Mapping[str, FileRecord]
    """What a build reads, by name; the same names and digests as in the artefact's key."""

    def __post_init__(self) -> None:
        if self.source.repository is not None and not is_commit(self.source.revision):
            raise InvalidSpec(f"source.revision: expected a commit id, not {self.source.revision}")
        if self.digest != (expected := compute_content_digest(self.files)):
            raise InvalidSpec(f"digest: {self.digest} does not follow from files ({expected})")

    def to_json(self) -> dict[str, Any]:
        """Return a dict of JSON values."""
        encoded: dict[str, Any] = encode(self)
        return encoded

    @classmethod
    def from_json(cls, value: object) -> ResolvedSource:
        """Parse what `to_json` returned.

        Raises:
            InvalidSpec: a field is unknown, missing, mistyped, or does not fit the others.
        """
        decoded: ResolvedSource = decode(cls, value, cls.__name__)
        return decoded


def is_commit(revision: str | None) -> bool:
    """Return whether a revision is a full commit id, which never moves."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def compute_content_digest(files: Mapping[str, FileRecord]) -> str:
    """Return 20 hex digits that stand for names and contents of files, wherever they are."""
    contents = to_canonical_json({name: record.sha256 for name, record in files.items()})
    return hashlib.sha256(contents.encode()).hexdigest()[:20]


def find_download(folder: Path, source: Source) -> tuple[Path, ResolvedSource] | None:
    """Return the download of exactly this repository and commit, if it is in `folder`."""
    for path in sorted(folder.glob(f"*/{SOURCE_NAME}")):
        try:
            resolved = read_download(path.parent)
        except BuilderError:
            continue  # damaged: whoever needs this one gets the error
        if resolved is not None and resolved.source == source:
            return path.parent, resolved
    return None


def read_download(path: Path) -> ResolvedSource | None:
    """Read what a downloaded source is, and compare its files' sizes; None if it is not there.

    Raises:
        BadArtefact: something is there that is not, or no longer, a whole source.
    """
    if not path.exists():
        return None
    again = "remove the folder to download it again"
    try:
        resolved = ResolvedSource.from_json(json.loads((path / SOURCE_NAME).read_bytes()))
        sizes = {name: (path / name).stat().st_size for name in resolved.files}
    except (OSError, ValueError, RecursionError, BuilderError) as exc:
        raise BadArtefact(f"{path}: damaged: {exc}; {again}") from exc
    for name, record in resolved.files.items():
        if sizes[name] != record.size:
            raise BadArtefact(
                f"{path / name}: damaged: {sizes[name]:,} bytes, expected {record.size:,}; {again}"
            )
    return resolved
