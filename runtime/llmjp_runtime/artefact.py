"""The artefact on disk: its kind, the backend that serves it, and whether its files are whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.contracts.spec import Manifest
from llmjp_runtime.errors import ArtefactInvalid

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_runtime.settings import Backend

KINDS: dict[Backend, str] = {"torch": "ranks", "tensorrt": "engine", "pytorch": "unified"}
"""The kind of artefact that each backend serves."""


def detect_backend(artefact: Path) -> Backend:
    """Return the backend that serves an artefact of this kind.

    Raises:
        ArtefactInvalid: not an artefact.
    """
    kind = load_manifest(artefact).kind
    return next(backend for backend, served in KINDS.items() if served == kind)


def load_manifest(artefact: Path) -> Manifest:
    """Read the artefact's manifest.

    Raises:
        ArtefactInvalid: not an artefact.
    """
    if not (artefact / "manifest.json").is_file():
        raise ArtefactInvalid(
            f"{artefact} is not an engine artefact (no manifest.json): `llmjp build` makes one and "
            "prints its path"
        )
    return Manifest.load(artefact)


def check_artefact(artefact: Path, backend: Backend) -> Manifest:
    """Return the manifest, after every check that needs no reading of weights.

    Raises:
        ArtefactInvalid: not an artefact, of another kind, or files are missing or cut.
    """
    manifest = load_manifest(artefact)
    if manifest.kind != KINDS[backend]:
        raise ArtefactInvalid(
            f"{artefact} is of kind {manifest.kind}, but backend {backend} serves {KINDS[backend]}"
        )
    for name, entry in manifest.files.items():
        found = (artefact / name).stat().st_size if (artefact / name).is_file() else None
        if found != entry.size:
            what = "is missing" if found is None else f"has {found} bytes, not {entry.size}"
            raise ArtefactInvalid(f"{artefact / name} {what}: build the artefact again")
    return manifest
