"""From an artefact to what serves it: its kind, tokenizer and executor."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from llmjp_builder.contracts.spec import Manifest
from llmjp_runtime.errors import ArtefactInvalid
from llmjp_runtime.text.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_runtime.executor.protocol import Executor
    from llmjp_runtime.settings import Backend, ServingSettings

KINDS: dict[Backend, str] = {"torch": "ranks", "tensorrt": "engine", "pytorch": "unified"}
"""The kind of artefact that each backend serves."""
DEFAULT_BATCH_SIZE = 32
"""Requests stepped together where neither the settings nor an engine say."""


def backend_of(artefact: Path) -> Backend:
    """The backend that serves an artefact of this kind.

    Raises:
        ArtefactInvalid: not an artefact.
    """
    kind = load_manifest(artefact).kind
    return next(backend for backend, served in KINDS.items() if served == kind)


def load_manifest(artefact: Path) -> Manifest:
    """What the artefact says of itself.

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
    """The manifest, after a look at everything that costs no reading of weights.

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


def load_tokenizer(settings: ServingSettings) -> TextTokenizer:
    """The artefact's own tokenizer."""
    return TextTokenizer.load(settings.artefact / "tokenizer")


def load_executor(settings: ServingSettings, tokenizer: TextTokenizer) -> Executor:
    """The executor of the settings' backend, loaded and running."""
    match settings.backend:
        case "torch":
            from llmjp_runtime.executor.torch.executor import TorchExecutor

            return TorchExecutor.load(
                settings.artefact,
                device=settings.device,
                compute_dtype=settings.compute_dtype,
                max_batch_size=settings.max_batch_size or DEFAULT_BATCH_SIZE,
                max_context=settings.max_context,
                num_valid_ids=tokenizer.num_entries,
                num_threads=settings.num_threads,
            )
        case "tensorrt":
            return _tensorrt_executor(settings)
        case "pytorch":
            return _pytorch_executor(settings)
        case unknown:
            assert_never(unknown)


def _tensorrt_executor(settings: ServingSettings) -> Executor:
    from llmjp_runtime.executor.tensorrt.engine_config import EngineConfig
    from llmjp_runtime.executor.tensorrt.executor import TensorRTExecutor
    from llmjp_runtime.executor.tensorrt.model_config import ENGINE_MODEL_NAME
    from llmjp_runtime.front.grpc_peer import NeighbourModel

    engine = EngineConfig.load(settings.artefact)
    limits = engine.limits(settings.max_batch_size, settings.max_context)
    return TensorRTExecutor(NeighbourModel(ENGINE_MODEL_NAME, settings), engine, limits)


def _pytorch_executor(settings: ServingSettings) -> Executor:
    from llmjp_runtime.executor.pytorch.executor import PyTorchExecutor
    from llmjp_runtime.executor.pytorch.llm_api import load_api

    return PyTorchExecutor.load(
        load_api(),
        settings.artefact,
        tensor_parallel=settings.tensor_parallel,
        pipeline_parallel=settings.pipeline_parallel,
        max_batch_size=settings.max_batch_size or DEFAULT_BATCH_SIZE,
        max_context=settings.max_context,
        kv_cache_fraction=settings.kv_cache_fraction,
    )
