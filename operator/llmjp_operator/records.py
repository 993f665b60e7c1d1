"""What one store holds and what was tried for it, as the store's ConfigMap records it. Pure.

    source-<digest>      Resolution     a source that was pinned, by the digest of what was asked
    artefact-<digest>    Built          what a request was built to
    failed-<digest>      Failed         why a request is not built, or a source not pinned

The operator writes it and reads it back; a ConfigMap that somebody deleted costs a Job that finds
everything in the store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from llmjp_builder.errors import BuilderError
from llmjp_builder.spec import Built, Failure, Resolution, canonical_json
from llmjp_builder.strict_json import decode, encode

T = TypeVar("T")

SOURCE: Final = "source-"
ARTEFACT: Final = "artefact-"
FAILED: Final = "failed-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Tries that failed."""

    failure: Failure
    """Of the last one."""
    attempts: int
    """So far."""
    at: float
    """When the last one was seen to have failed, in seconds since 1970."""
    job: str
    """uid of the Job that failed last, so that it is counted once."""
    retry: str = ""
    """The model's annotation at the time: another value tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The whole ConfigMap."""

    sources: Mapping[str, Resolution] = field(default_factory=dict)
    artefacts: Mapping[str, Built] = field(default_factory=dict)
    failed: Mapping[str, Failed] = field(default_factory=dict)

    def with_source(self, digest: str, found: Resolution) -> Record:
        """Once it is pinned."""
        return replace(
            self, sources={**self.sources, digest: found}, failed=_without(self.failed, digest)
        )

    def with_artefact(self, digest: str, built: Built) -> Record:
        """Once it is built."""
        return replace(
            self, artefacts={**self.artefacts, digest: built}, failed=_without(self.failed, digest)
        )

    def with_failure(self, digest: str, failed: Failed) -> Record:
        """Once it failed."""
        return replace(self, failed={**self.failed, digest: failed})

    def without_artefacts(self, keys: frozenset[str]) -> Record:
        """Once they are removed from the store."""
        kept = {d: built for d, built in self.artefacts.items() if built.key not in keys}
        return replace(self, artefacts=kept)

    def artefact_of(self, key: str) -> Built | None:
        """What is known of the artefact of that key."""
        return next((built for built in self.artefacts.values() if built.key == key), None)

    def to_data(self) -> dict[str, str]:
        """The ConfigMap's `data`."""
        parts: tuple[tuple[str, Mapping[str, Any]], ...] = (
            (SOURCE, self.sources),
            (ARTEFACT, self.artefacts),
            (FAILED, self.failed),
        )
        return {
            f"{prefix}{digest}": canonical_json(encode(value))
            for prefix, values in parts
            for digest, value in values.items()
        }


def parse_record(data: Mapping[str, str]) -> Record:
    """What `to_data` wrote; an entry that cannot be read is as good as missing."""
    return Record(
        sources=_entries(data, SOURCE, Resolution),
        artefacts=_entries(data, ARTEFACT, Built),
        failed=_entries(data, FAILED, Failed),
    )


def _entries(data: Mapping[str, str], prefix: str, cls: type[T]) -> dict[str, T]:
    found = {}
    for name, text in data.items():
        if name.startswith(prefix):
            try:
                found[name.removeprefix(prefix)] = decode(cls, json.loads(text), name)
            except (ValueError, BuilderError):
                continue
    return found


def _without(failed: Mapping[str, Failed], digest: str) -> dict[str, Failed]:
    return {name: value for name, value in failed.items() if name != digest}
