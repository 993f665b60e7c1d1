"""An artefact under its key: found in the store, waited for, or made and published."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BadArtefact, BuilderError
from llmjp_builder.contracts.spec import Built, Kind, Manifest, Step
from llmjp_builder.store.hashing import hash_files
from llmjp_builder.store.leases import LEASE_S, record_use
from llmjp_builder.store.store import Store, check_artefact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from llmjp_builder.contracts.spec import KeyInputs
    from llmjp_builder.progress import Reporter

BUILDER = "llmjp build"
"""Uses an artefact for `LEASE_S` after a build: until whoever wanted it says that they use it."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """Where the artefact is."""

    path: Path
    key: str
    cache_hit: bool
    """Whether it was there already."""
    manifest: Manifest
    download: str | None = None
    """Name in the store of the source, if it came from a hub."""

    @property
    def built(self) -> Built:
        """The same for whoever started the build somewhere else."""
        engine = self.manifest.inputs.engine
        return Built(
            key=self.key,
            kind=self.manifest.kind,
            cache_hit=self.cache_hit,
            bytes=sum(record.size for record in self.manifest.files.values()),
            tensor_parallel=self.manifest.tensor_parallel,
            pipeline_parallel=self.manifest.pipeline_parallel,
            gpu_product=None if engine is None else engine.gpu_product,
            compute_capability=None if engine is None else engine.compute_capability,
            tensorrt_llm=None if engine is None else engine.tensorrt_llm,
            tensorrt=None if engine is None else engine.tensorrt,
            made_from=tuple(filter(None, (self.download, self.manifest.checkpoint_key))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An artefact that is wanted."""

    inputs: KeyInputs
    make: Callable[[Path], None]
    """Fills an empty folder with all its files but the manifest; durable on return."""
    bytes_per_rank: Callable[[Path], tuple[int, ...]]
    """Of such a folder."""
    versions: Mapping[str, str]
    label: str
    """The source's name, for people; it is in no artefact."""
    checkpoint_key: str | None = None


def found_or_made(order: Order, store: Store, reporter: Reporter, *, verify: bool) -> BuildResult:
    """The artefact; it is not collected while this runs, nor within `LEASE_S` afterwards.

    Args:
        order: what is wanted.
        store: where it is looked for, and made.
        reporter: hears of every step.
        verify: compare an artefact that is there with its SHA-256 sums, not only with sizes.

    Raises:
        BuilderError: nothing that could be mistaken for a result is left behind.
    """
    key = order.inputs.key

    def on_wait() -> None:
        step = Step.COMPILE if order.inputs.kind is Kind.ENGINE else Step.CONVERT
        reporter.begin(step, 0, f"another process is building {key}; waiting for it")

    with store.in_use(key), store.building(key, on_wait):
        manifest = _published(store, key, reporter, verify=verify)
        found = manifest is not None
        if manifest is None:
            with store.work_folder(key) as work:
                manifest = _made(order, work, store, reporter)
                reporter.begin(Step.PUBLISH, 0, f"publishing {key}")
                store.publish(work, manifest)
            reporter.end()
        with suppress(BuilderError):  # the disk may be full; the artefact is there all the same
            expires = time.time() + LEASE_S
            record_use(store.root, key, BUILDER, expires, label=order.label)
    return BuildResult(store.path_of(key), key, found, manifest)


def _published(store: Store, key: str, reporter: Reporter, *, verify: bool) -> Manifest | None:
    """The manifest of a whole artefact of that key; None if there is none, or a damaged one."""
    path = store.path_of(key)
    if not path.exists():
        return None
    try:
        total = sum(record.size for record in Manifest.load(path).files.values())
        reporter.begin(Step.PUBLISH, total if verify else 0, f"verifying {path}")
        manifest = check_artefact(path, reporter.add, hashes=verify)
    except BadArtefact as exc:
        reporter.begin(Step.PUBLISH, 0, f"building again, the artefact is damaged: {exc}")
        return None
    reporter.end()
    return manifest


def _made(order: Order, work: Path, store: Store, reporter: Reporter) -> Manifest:
    """Every file is there, by us or by a build that was killed later; hashed for the manifest."""
    if not store.is_finished(work):
        order.make(work)
        store.finish(work)
    names = sorted(p.relative_to(work).as_posix() for p in work.rglob("*") if p.is_file())
    total = sum((work / name).stat().st_size for name in names)
    reporter.begin(Step.ASSEMBLE, total, f"hashing {work}")
    files = hash_files(work, names, reporter.add)
    reporter.end()
    return Manifest(
        kind=order.inputs.kind,
        key=order.inputs.key,
        inputs=order.inputs,
        files=files,
        bytes_per_rank=order.bytes_per_rank(work),
        versions=order.versions,
        checkpoint_key=order.checkpoint_key,
    )
