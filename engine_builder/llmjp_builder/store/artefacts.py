"""Finding an artefact by its key, waiting for it, or making and publishing it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BadArtefact, BuilderError
from llmjp_builder.contracts.spec import Built, Kind, Manifest, Step
from llmjp_builder.store.hashing import hash_files
from llmjp_builder.store.leases import LEASE_S, record_lease
from llmjp_builder.store.store import Store, check_artefact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from llmjp_builder.contracts.spec import KeyInputs
    from llmjp_builder.progress import Reporter

BUILDER = "llmjp build"
"""Holds a lease of `LEASE_S` after a build, until whoever wanted the artefact takes their own."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A finished build: where the artefact is, and whether it had to be made."""

    path: Path
    key: str
    cache_hit: bool
    """The artefact was there already."""
    manifest: Manifest
    download: str | None = None
    """Name of the downloaded source in the store, if it came from a hub."""

    @property
    def built(self) -> Built:
        """The result as a Job's termination message."""
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
class ArtefactRecipe:
    """How to make an artefact, and the inputs that determine its key."""

    inputs: KeyInputs
    make: Callable[[Path], None]
    """Fill an empty folder with all files but the manifest; durable on return."""
    bytes_per_rank: Callable[[Path], tuple[int, ...]]
    """Measure the weights in such a folder."""
    versions: Mapping[str, str]
    label: str
    """The source's name, for people; not stored in the artefact."""
    checkpoint_key: str | None = None


def find_or_make_artefact(
    recipe: ArtefactRecipe, store: Store, reporter: Reporter, *, verify: bool
) -> BuildResult:
    """Return the artefact; it is not collected while this runs, nor within `LEASE_S` afterwards.

    Args:
        recipe: how to make it.
        store: where it is searched and made.
        reporter: receives every step.
        verify: check an existing artefact by SHA-256, not only by size.

    Raises:
        BuilderError: nothing that could be mistaken for a result is left behind.
    """
    key = recipe.inputs.key

    def on_wait() -> None:
        step = Step.COMPILE if recipe.inputs.kind is Kind.ENGINE else Step.CONVERT
        reporter.begin(step, 0, f"another process is building {key}; waiting for it")

    with store.in_use(key), store.building(key, on_wait):
        manifest = _find_published(store, key, reporter, verify=verify)
        found = manifest is not None
        if manifest is None:
            with store.work_folder(key) as work:
                manifest = _make(recipe, work, store, reporter)
                reporter.begin(Step.PUBLISH, 0, f"publishing {key}")
                store.publish(work, manifest)
            reporter.end()
        with suppress(BuilderError):  # the disk may be full; the artefact is there all the same
            expires = time.time() + LEASE_S
            record_lease(store.root, key, BUILDER, expires, label=recipe.label)
    return BuildResult(store.get_path(key), key, found, manifest)


def _find_published(store: Store, key: str, reporter: Reporter, *, verify: bool) -> Manifest | None:
    """Return the manifest of the intact artefact of that key, if there is one."""
    path = store.get_path(key)
    if not path.exists():
        return None
    try:
        total = sum(record.size for record in Manifest.load(path).files.values())
        reporter.begin(Step.PUBLISH, total if verify else 0, f"verifying {path}")
        manifest = check_artefact(path, reporter.add, hashes=verify)
    except BadArtefact as exc:
        reporter.begin(Step.PUBLISH, 0, f"rebuilding, the artefact is damaged: {exc}")
        return None
    reporter.end()
    return manifest


def _make(recipe: ArtefactRecipe, work: Path, store: Store, reporter: Reporter) -> Manifest:
    """Make the files unless an interrupted build has finished them; hash them for the manifest."""
    if not store.is_finished(work):
        recipe.make(work)
        store.finish(work)
    names = sorted(p.relative_to(work).as_posix() for p in work.rglob("*") if p.is_file())
    total = sum((work / name).stat().st_size for name in names)
    reporter.begin(Step.ASSEMBLE, total, f"hashing {work}")
    files = hash_files(work, names, reporter.add)
    reporter.end()
    return Manifest(
        kind=recipe.inputs.kind,
        key=recipe.inputs.key,
        inputs=recipe.inputs,
        files=files,
        bytes_per_rank=recipe.bytes_per_rank(work),
        versions=recipe.versions,
        checkpoint_key=recipe.checkpoint_key,
    )
