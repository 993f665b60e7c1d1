"""What one store holds and what was tried for it, as the store's ConfigMap records it. Pure.

    source-<model>       Pinned             what the model's source was found to be
    artefact-<digest>    Built              what a request was built to
    failed-<digest>      Failed             why a request is not built; of a model's source,
    failed-source.<model>                   why it is not pinned
    history-<model>      list of Served     what the model served, the newest last

The operator writes it and reads it back; a ConfigMap that somebody deleted costs a Job that finds
everything in the store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping  # noqa: TC003 - `decode` resolves the annotations
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from llmjp_builder.contracts.codec import decode as decode_contract
from llmjp_builder.contracts.codec import encode as encode_contract
from llmjp_builder.contracts.errors import BuilderError
from llmjp_builder.contracts.spec import Built, Failure, Resolution, to_canonical_json
from llmjp_operator.api import decode, encode
from llmjp_operator.api.engine import Engine, Hardware, RuntimeChoice  # noqa: TC001 - likewise
from llmjp_operator.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

SOURCE: Final = "source-"
ARTEFACT: Final = "artefact-"
FAILED: Final = "failed-"
HISTORY: Final = "history-"

MAX_HISTORY: Final = 100
"""As many artefacts as a model can be told to keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedSource:
    """A model's source, once it cannot change its meaning any more."""

    asked: str
    """Digest of what the spec names (`Source.reference_digest`)."""
    uid: str
    """Of the model: another one of the same name pins anew."""
    found: Resolution


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempts:
    """Tries that failed."""

    asked: str
    """Digest of what was tried."""
    failure: Failure
    """Of the last try."""
    attempts: int
    """So far."""
    at: float
    """When the last one was seen to have failed, in seconds since 1970."""
    job: str
    """uid of the Job that failed last, so that it is counted once."""
    retries: tuple[str, ...] = ()
    """The models' annotations at the time: a new value tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedArtefact:
    """An artefact that became ready, and the part of the spec that it was served by."""

    key: str
    engine: Engine
    hardware: Hardware
    runtime: RuntimeChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRecord:
    """The whole ConfigMap."""

    sources: Mapping[str, PinnedSource] = field(default_factory=dict)
    """By model."""
    artefacts: Mapping[str, Built] = field(default_factory=dict)
    """By request."""
    failed: Mapping[str, FailedAttempts] = field(default_factory=dict)
    """By request, or `source_entry` of a model."""
    history: Mapping[str, tuple[ServedArtefact, ...]] = field(default_factory=dict)
    """By model, the newest last, no two equal."""

    def with_source(self, model: str, pinned: PinnedSource) -> StoreRecord:
        """Once it is pinned."""
        failed = _drop_entry(self.failed, make_source_entry(model))
        return replace(self, sources={**self.sources, model: pinned}, failed=failed)

    def with_artefact(self, request: str, built: Built) -> StoreRecord:
        """Once it is built."""
        artefacts = {**self.artefacts, request: built}
        return replace(self, artefacts=artefacts, failed=_drop_entry(self.failed, request))

    def with_failure(self, entry: str, failed: FailedAttempts) -> StoreRecord:
        """Once it failed."""
        return replace(self, failed={**self.failed, entry: failed})

    def with_served(self, model: str, served: ServedArtefact) -> StoreRecord:
        """Once it became ready."""
        before = [entry for entry in self.history.get(model, ()) if entry != served]
        history = {**self.history, model: (*before, served)[-MAX_HISTORY:]}
        return replace(self, history=history)

    def without_artefacts(self, keys: frozenset[str]) -> StoreRecord:
        """Once they are removed from the store."""
        return replace(
            self,
            artefacts={r: built for r, built in self.artefacts.items() if built.key not in keys},
            history={
                model: tuple(entry for entry in entries if entry.key not in keys)
                for model, entries in self.history.items()
            },
        )

    def artefact_of(self, key: str) -> Built | None:
        """What is known of the artefact of that key."""
        return next((built for built in self.artefacts.values() if built.key == key), None)

    def to_data(self) -> dict[str, str]:
        """The ConfigMap's `data`."""
        history = {
            model: [encode(entry) for entry in entries] for model, entries in self.history.items()
        }
        parts: tuple[tuple[str, Mapping[str, Any]], ...] = (
            (SOURCE, self.sources),
            (ARTEFACT, self.artefacts),
            (FAILED, self.failed),
            (HISTORY, history),
        )
        return {
            f"{prefix}{name}": to_canonical_json(encode_contract(value))
            for prefix, values in parts
            for name, value in sorted(values.items())
        }


def make_source_entry(model: str) -> str:
    """Where a failure to pin a model's source is recorded."""
    return f"source.{model}"


def parse_record(data: Mapping[str, str]) -> StoreRecord:
    """What `to_data` wrote; an entry that cannot be read is as good as missing."""
    return StoreRecord(
        sources=dict(_parse_entries(data, SOURCE, _make_parser(PinnedSource))),
        artefacts=dict(_parse_entries(data, ARTEFACT, _make_parser(Built))),
        failed=dict(_parse_entries(data, FAILED, _make_parser(FailedAttempts))),
        history=dict(_parse_entries(data, HISTORY, _parse_history)),
    )


def _parse_entries(
    data: Mapping[str, str], prefix: str, read: Callable[[object, str], T]
) -> Iterator[tuple[str, T]]:
    for name, text in data.items():
        if name.startswith(prefix):
            try:
                yield name.removeprefix(prefix), read(json.loads(text), name)
            except (TypeError, ValueError, BuilderError, OperatorError):
                continue


def _make_parser(cls: type[T]) -> Callable[[object, str], T]:
    return lambda value, name: decode_contract(cls, value, name)


def _parse_history(value: object, name: str) -> tuple[ServedArtefact, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{name}: must be a list")
    return tuple(decode(ServedArtefact, item, name, strict=False) for item in value)


def _drop_entry(failed: Mapping[str, FailedAttempts], entry: str) -> dict[str, FailedAttempts]:
    return {name: value for name, value in failed.items() if name != entry}
