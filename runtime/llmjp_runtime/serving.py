"""From an artefact to what serves it: its kind, tokenizer and executor."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from llmjp_builder.spec import Manifest
from llmjp_runtime.errors import ArtefactInvalid
from llmjp_runtime.text.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_runtime.executor.protocol import Executor
    from llmjp_runtime.settings import Backend, ServingSettings

KINDS: dict[Backend, str] = {"torch": "ranks"}
"""The kind of artefact that each backend serves."""


def check_artefact(artefact: Path, backend: Backend) -> Manifest:
    """The manifest, after a look at everything that costs no reading of weights.

    Raises:
        ArtefactInvalid: not an artefact, of another kind, or files are missing or cut.
    """
    if not (artefact / "manifest.json").is_file():
        raise ArtefactInvalid(
            f"{artefact} is not an engine artefact (no manifest.json): `llmjp build` makes one and "
            "prints its path"
        )
    manifest = Manifest.load(artefact)
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


def load_tokenizer(settings: ServingSettings) -> TextTokenizer:
    """The artefact's own tokenizer."""
    return TextTokenizer.load(settings.artefact / "tokenizer")


def load_executor(settings: ServingSettings, tokenizer: TextTokenizer) -> Executor:
    """The executor of the settings' backend, loaded and running."""
    match settings.backend:
        case "torch":
            from llmjp_runtime.executor.torch_executor import TorchExecutor

            return TorchExecutor.load(
                settings.artefact,
                device=settings.device,
                compute_dtype=settings.compute_dtype,
                max_batch_size=settings.max_batch_size,
                max_context=settings.max_context,
                num_valid_ids=tokenizer.num_entries,
                num_threads=settings.num_threads,
            )
        case unknown:
            assert_never(unknown)
