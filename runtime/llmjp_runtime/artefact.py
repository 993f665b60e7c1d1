"""The artefact on disk: its kind, the backend that serves it, and whether its files are whole."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from llmjp_builder.contracts.spec import Manifest
from llmjp_runtime.errors import ArtefactInvalid, EngineMissing

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_runtime.settings import Backend

KINDS: dict[Backend, str] = {
    "torch": "ranks",
    "tensorrt": "engine",
    "pytorch": "unified",
    "vllm": "unified",
}
"""The kind of artefact that each backend serves."""
_LIBRARIES: dict[Backend, str] = {"pytorch": "tensorrt_llm", "vllm": "vllm"}
"""What a backend that is chosen by what is installed imports."""


def detect_backend(artefact: Path) -> Backend:
    """Return the backend that serves an artefact of this kind; of several, one that is installed.

    Raises:
        ArtefactInvalid: not an artefact.
    """
    if is_plain_checkpoint(artefact) and find_spec("vllm") is not None:
        return "vllm"
    kind = load_manifest(artefact).kind
    first, *others = (backend for backend, served in KINDS.items() if served == kind)
    if not others:
        return first
    installed = (b for b in (first, *others) if find_spec(_LIBRARIES[b]) is not None)
    return next(installed, first)


def require_library(backend: Backend) -> None:
    """Refuse a backend whose library is not installed.

    Raises:
        EngineMissing: says how to get it.
    """
    if backend == "vllm" and find_spec("vllm") is None:
        raise EngineMissing(
            "backend vllm needs vLLM, which is not installed here: install vllm beside "
            "llmjp-serving (docs/serving.md says which versions), or build the artefact for "
            "another backend"
        )


def is_plain_checkpoint(folder: Path) -> bool:
    """Return whether a folder is a Hugging Face checkpoint that nothing was built from."""
    return (folder / "config.json").is_file() and not (folder / "manifest.json").exists()


def find_tokenizer(artefact: Path) -> Path:
    """Return the folder of the tokenizer's files: an artefact's own, or the checkpoint itself."""
    return artefact if is_plain_checkpoint(artefact) else artefact / "tokenizer"


def load_manifest(artefact: Path) -> Manifest:
    """Read the artefact's manifest.

    Raises:
        ArtefactInvalid: not an artefact.
    """
    if not (artefact / "manifest.json").is_file():
        raise ArtefactInvalid(
            f"{artefact} is not an engine artefact (no manifest.json): `llmjp build` makes one and "
            "prints its path; backend vllm serves a Hugging Face folder as it is"
        )
    return Manifest.load(artefact)


def check_artefact(artefact: Path, backend: Backend) -> Manifest | None:
    """Return the manifest, after every check that needs no reading of weights.

    None for a plain Hugging Face checkpoint, which backend vllm serves as it is.

    Raises:
        ArtefactInvalid: not an artefact, of another kind, or files are missing or cut.
    """
    if backend == "vllm" and is_plain_checkpoint(artefact):
        return None
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
