"""Record of a store's artefacts, sources and failures, kept in its ConfigMap. Pure.

    source-<model>       PinnedSource       the pinned source of a model
    artefact-<digest>    Built              the artefact of a build request
    checkpoint-<digest>  Built              what engines are compiled from, likewise
    failed-<digest>.<pods>                  why a request is not built by such pods
    failed-<digest>      FailedAttempts     the same, of Jobs of older operators
    failed-source.<model>                   why a model's source is not pinned
    history-<model>      ServedArtefacts    what the model served, newest last
    claim                                   uid of the claim that all this is about
    schema                                  version of this layout

Other versions of the operator read and write it as well: unknown fields are ignored, an entry that
did not change keeps its text, and one that cannot be read is kept as it is. If somebody deletes the
ConfigMap, what serves stays as it is, and Jobs find everything in the store again.
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
CHECKPOINT: Final = "checkpoint-"
FAILED: Final = "failed-"
HISTORY: Final = "history-"
CLAIM: Final = "claim"
SCHEMA: Final = "schema"
SCHEMA_VERSION: Final = 1
"""Version of the layout that this operator writes; a higher one that is there already stays."""

MAX_FAILURES: Final = 8
"""Failures of one build request by different pods that are remembered."""
MAX_HISTORY: Final = 100
"""Largest value of spec.storage.keepEngines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedSource:
    """A model's source, pinned to a commit or to digests of files."""

    asked: str
    """`CheckpointSource.reference_digest` of the spec."""
    uid: str
    """uid of the model: another model of the same name pins again."""
    found: Resolution


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempts:
    """Failed attempts at the same build or resolution."""

    asked: str
    """Digest of the build request, or of the source's reference."""
    failure: Failure
    """Failure of the last attempt."""
    attempts: int
    """Number of attempts so far, without those whose pod the cluster took away."""
    at: float
    """When the last failure was seen, in seconds since 1970."""
    job: str
    """uid of the Job that failed last, to count it once."""
    retries: tuple[str, ...] = ()
    """The models' retry annotations at that time: a new value tries again."""
    pods: str | None = None
    """Digest of the pods that failed: others may fare better. None of Jobs of older operators."""
    lost: int | None = None
    """How many pods in a row the cluster took away; None if the last was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedArtefact:
    """An artefact that became ready, with the part of the spec that it was served with."""

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
    checkpoints: Mapping[str, Built] = field(default_factory=dict)
    """By request; no model serves them."""
    failed: Mapping[str, FailedAttempts] = field(default_factory=dict)
    """By `make_build_entry` of a request, or `make_source_entry` of a model."""
    history: Mapping[str, tuple[ServedArtefact, ...]] = field(default_factory=dict)
    """By model, the newest last, no two equal."""
    claim: str = ""
    """uid of the claim; empty where no claim was there yet, and in records of version 0.1.0."""
    text: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The ConfigMap's data, as it was read."""

    def for_claim(self, uid: str) -> StoreRecord:
        """Return the record for a claim: an empty one if it is about a claim that is gone."""
        if self.claim == uid or not uid:
            return self
        if self.claim:
            return StoreRecord()
        return self if self == StoreRecord() else replace(self, claim=uid)

    def with_source(self, model: str, pinned: PinnedSource) -> StoreRecord:
        """Return the record with a pinned source, without its failures."""
        failed = _drop_entry(self.failed, make_source_entry(model))
        return replace(self, sources={**self.sources, model: pinned}, failed=failed)

    def with_artefact(self, request: str, built: Built) -> StoreRecord:
        """Return the record with a built artefact, without its failures."""
        artefacts = {**self.artefacts, request: built}
        return replace(self, artefacts=artefacts, failed=self._drop_failures(request))

    def with_checkpoint(self, request: str, built: Built) -> StoreRecord:
        """Return the record with what engines are compiled from, without its failures."""
        checkpoints = {**self.checkpoints, request: built}
        return replace(self, checkpoints=checkpoints, failed=self._drop_failures(request))

    def without_checkpoint(self, key: str) -> StoreRecord:
        """Return the record without a checkpoint that is not in the store."""
        kept = {r: built for r, built in self.checkpoints.items() if built.key != key}
        return replace(self, checkpoints=kept)

    def _drop_failures(self, request: str) -> dict[str, FailedAttempts]:
        return {name: v for name, v in self.failed.items() if not _is_about(name, request)}

    def with_failure(self, entry: str, failed: FailedAttempts) -> StoreRecord:
        """Return the record with a failure; the oldest of too many about a request is forgotten."""
        about = [name for name in self.failed if _is_about(name, failed.asked) and name != entry]
        about.sort(key=lambda name: self.failed[name].at)
        dropped = set(about[: 1 - MAX_FAILURES])
        if failed.pods is not None:
            dropped.add(failed.asked)
        kept = {name: value for name, value in self.failed.items() if name not in dropped}
        return replace(self, failed={**kept, entry: failed})

    def find_failure(self, entry: str, pods: str) -> FailedAttempts | None:
        """Return the failed attempts at a request or a source by pods with that digest.

        A failure whose pods are not known counts for all.
        """
        for name in (make_build_entry(entry, pods), entry):
            found = self.failed.get(name)
            if found is not None and found.pods in {None, pods}:
                return found
        return None

    def has_counted(self, job: str) -> bool:
        """Return whether the failure of the Job with that uid is recorded."""
        return any(failed.job == job for failed in self.failed.values())

    def with_served(self, model: str, served: ServedArtefact) -> StoreRecord:
        """Return the record with an artefact that became ready."""
        before = [entry for entry in self.history.get(model, ()) if entry != served]
        history = {**self.history, model: (*before, served)[-MAX_HISTORY:]}
        return replace(self, history=history)

    def without_artefacts(self, keys: frozenset[str]) -> StoreRecord:
        """Return the record without artefacts that were removed from the store."""
        return replace(
            self,
            artefacts={r: built for r, built in self.artefacts.items() if built.key not in keys},
            checkpoints={r: b for r, b in self.checkpoints.items() if b.key not in keys},
            history={
                model: tuple(entry for entry in entries if entry.key not in keys)
                for model, entries in self.history.items()
            },
        )

    def find_artefact(self, key: str) -> Built | None:
        """Return the artefact of that key; None if it is unknown."""
        return next((built for built in self.artefacts.values() if built.key == key), None)

    def to_data(self) -> dict[str, str]:
        """Return the `data` of the ConfigMap."""
        history = {
            model: [encode(entry) for entry in entries] for model, entries in self.history.items()
        }
        parts: tuple[tuple[str, Mapping[str, Any]], ...] = (
            (SOURCE, self.sources),
            (ARTEFACT, self.artefacts),
            (CHECKPOINT, self.checkpoints),
            (FAILED, self.failed),
            (HISTORY, history),
        )
        entries = {
            f"{prefix}{name}": to_canonical_json(encode_contract(value))
            for prefix, values in parts
            for name, value in sorted(values.items())
        }
        about = {CLAIM: self.claim} if self.claim else {}
        return {**self._keep_text(entries), **about, SCHEMA: self._find_schema()}

    def _keep_text(self, entries: Mapping[str, str]) -> dict[str, str]:
        """Return entries in the words in which they were read, and all that could not be read."""
        before = parse_record(self.text)
        unread = {
            name: text
            for name, text in self.text.items()
            if name not in {CLAIM, SCHEMA} and before.find_entry(name) is None
        }
        kept = {
            name: self.text[name]
            for name in entries.keys() & self.text.keys()
            if self.find_entry(name) == before.find_entry(name)
        }
        return {**unread, **entries, **kept}

    def _find_schema(self) -> str:
        there = self.text.get(SCHEMA, "")
        return str(max(SCHEMA_VERSION, int(there) if there.isdecimal() else 0))

    def find_entry(self, name: str) -> object:
        """Return the value of an entry of the ConfigMap; None if there is none, or it is unread."""
        built = ((ARTEFACT, self.artefacts), (CHECKPOINT, self.checkpoints))
        more = ((SOURCE, self.sources), (FAILED, self.failed), (HISTORY, self.history))
        for prefix, values in (*built, *more):
            if name.startswith(prefix):
                return values.get(name.removeprefix(prefix))
        return None


def make_source_entry(model: str) -> str:
    """Return the entry for failures to pin a model's source."""
    return f"source.{model}"


def make_build_entry(request: str, pods: str) -> str:
    """Return the entry for failures of pods with that digest to build a request."""
    return f"{request}.{pods}" if pods else request


def parse_record(data: Mapping[str, str]) -> StoreRecord:
    """Parse what `to_data` wrote; an entry that cannot be parsed counts as missing."""
    return StoreRecord(
        sources=dict(_parse_entries(data, SOURCE, _make_parser(PinnedSource))),
        artefacts=dict(_parse_entries(data, ARTEFACT, _make_parser(Built))),
        checkpoints=dict(_parse_entries(data, CHECKPOINT, _make_parser(Built))),
        failed=dict(_parse_entries(data, FAILED, _make_parser(FailedAttempts))),
        history=dict(_parse_entries(data, HISTORY, _parse_history)),
        claim=data.get(CLAIM, ""),
        text=data,
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
    return lambda value, name: decode_contract(cls, value, name, strict=False)


def _parse_history(value: object, name: str) -> tuple[ServedArtefact, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{name}: must be a list")
    return tuple(decode(ServedArtefact, item, name, strict=False) for item in value)


def _is_about(entry: str, request: str) -> bool:
    """Return whether an entry is about failures to build that request."""
    return entry == request or entry.startswith(f"{request}.")


def _drop_entry(failed: Mapping[str, FailedAttempts], entry: str) -> dict[str, FailedAttempts]:
    return {name: value for name, value in failed.items() if name != entry}
