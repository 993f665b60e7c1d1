"""Calibrations in a store: found there, resumed, or started.

<store>/calibrations/<key>/amax.json           what `--activation-amax` reads
<store>/calibrations/<key>/calibration.json    what it depends on: the key's inputs; versions
<store>/calibrations/<key>.partial/            under way, or left by a killed run: see `layerwise`
<store>/locks/calibration-<key>                held while it is under way

The key is made of the weights' SHA-256, the tokens that the texts have, the element type and the
kind of device: two texts or tokenizers that give the same tokens are the same calibration.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from llmjp_builder.contracts.errors import (
    BadConfig,
    InvalidSpec,
    MissingFile,
    NotEnoughGpuMemory,
    NotEnoughHostMemory,
    UnsupportedRequest,
)
from llmjp_builder.contracts.spec import LayoutOptions, Step, to_canonical_json, to_pretty_json
from llmjp_builder.convert.amax import Amax, read_amax
from llmjp_builder.convert.conversion import prepare_ranks
from llmjp_builder.convert.planner import FAMILIES
from llmjp_builder.progress import Reporter
from llmjp_builder.quantize.calibration.passages import read_passages
from llmjp_builder.quantize.calibration.tokens import tokenise
from llmjp_builder.store.files import os_errors, sync_directory, write_durably
from llmjp_builder.store.hashing import hash_files
from llmjp_builder.store.locks import locked
from llmjp_builder.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from llmjp_builder.contracts.spec import Dtype, Progress
    from llmjp_builder.convert.checkpoint import SourceCheckpoint
    from llmjp_builder.quantize.calibration.tokens import Tokens

CALIBRATION_REVISION = "1"
"""Part of every key: raise it with any change that may alter an amax."""

MAX_TOKENS = 512
"""Default limit for a passage, as in TensorRT-LLM's quantize.py; less if the model takes less."""

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationInputs:
    """Everything that amax depends on."""

    source_sha256: Mapping[str, str]
    """Digests of config.json, the index and the weight files, by name."""
    tokens_sha256: str
    dtype: Dtype
    device: str
    """`cpu` or `cuda`: their sums differ in the last bits."""
    revision: str = CALIBRATION_REVISION

    @property
    def key(self) -> str:
        """The calibration's key: 20 hex digits of SHA-256 over the canonical JSON."""
        return hashlib.sha256(to_canonical_json(asdict(self)).encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """A finished calibration."""

    amax: Amax
    digest: str
    """SHA-256 over all of amax."""
    path: Path
    """Its folder in the store."""


@dataclass(frozen=True, slots=True)
class _CalibrationJob:
    checkpoint: SourceCheckpoint
    tokens: Tokens
    inputs: CalibrationInputs


def calibrate(
    source: Path,
    *,
    texts: Path | None,
    store: Path,
    dtype: Literal["auto", "bfloat16", "float16"] = "auto",
    max_tokens: int | None = None,
    device: Device = "auto",
    source_sha256: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> CalibrationResult:
    """Return the amax of the checkpoint in `source` over texts: found in the store, or computed.

    Amax of keys and values is always among it, for FP8 KV caches: it costs next to nothing. Texts
    are computed one by one, without padding (`decoder` says why).

    Args:
        source: folder of a Hugging Face checkpoint with its tokenizer.
        texts: see `read_passages`; None takes the built-in ones.
        store: its folder, made if missing. A killed calibration goes on from there.
        dtype: of weights and activations, as in conversion.
        max_tokens: what a passage has beyond them is left out; None takes `MAX_TOKENS`.
        device: `auto` is CUDA where there is a GPU that works.
        source_sha256: of the source's files, if they were hashed already.
        on_progress: as in `pipeline.build`.

    Raises:
        BadTexts: the texts are not UTF-8, or there are none.
        InvalidSpec: `max_tokens` is not positive, or beyond what the model takes.
        NotEnoughGpuMemory, NotEnoughHostMemory: one layer and one text do not fit.
        NotEnoughDisk: the store has no room for two copies of the hidden states.
        UnsupportedRequest: CUDA was asked for and there is none.
        BuilderError: the checkpoint is damaged or unsupported (see `prepare_ranks`).
    """
    conversion = prepare_ranks(source, LayoutOptions(dtype=dtype))
    checkpoint, resolved = conversion.checkpoint, conversion.layout.dtype
    limit = _resolve_max_tokens(checkpoint, max_tokens)
    chosen = _resolve_device(device)
    tokens = tokenise(source, checkpoint.config, read_passages(texts), limit)
    reporter, place = Reporter(on_progress), Store(store)
    sha256 = source_sha256 or _hash_source(checkpoint, place, reporter)
    inputs = CalibrationInputs(
        source_sha256={name: sha256[name] for name in checkpoint.files},
        tokens_sha256=tokens.digest,
        dtype=resolved,
        device=chosen,
    )
    return _find_or_compute(_CalibrationJob(checkpoint, tokens, inputs), store, reporter)


def _resolve_max_tokens(checkpoint: SourceCheckpoint, max_tokens: int | None) -> int:
    """Return the limit of tokens per text."""
    positions = checkpoint.config.max_position_embeddings
    limit = min(MAX_TOKENS, positions) if max_tokens is None else max_tokens
    if not 0 < limit <= positions:
        raise InvalidSpec(
            f"max_tokens: must be 1 to {positions}, the positions that the model has, not {limit}"
        )
    return limit


def _resolve_device(wanted: Device) -> Literal["cpu", "cuda"]:
    import torch

    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UnsupportedRequest("device cuda: torch finds no GPU that it can use; use cpu or auto")
    return "cuda" if available and wanted != "cpu" else "cpu"


def _hash_source(checkpoint: SourceCheckpoint, store: Store, reporter: Reporter) -> dict[str, str]:
    folder, cache = checkpoint.folder, store.hash_cache
    with os_errors(folder):
        total = sum((folder / name).stat().st_size for name in checkpoint.files)
    reporter.begin(Step.CALIBRATE, total, f"hashing {folder}")
    records = hash_files(folder, checkpoint.files, reporter.add, cache)
    cache.save()
    return {name: record.sha256 for name, record in records.items()}


def _find_or_compute(wanted: _CalibrationJob, store: Path, reporter: Reporter) -> CalibrationResult:
    key = wanted.inputs.key
    path = store / "calibrations" / key
    with os_errors(store):
        for folder in (path.parent, store / "locks"):
            folder.mkdir(parents=True, exist_ok=True)

    def on_wait() -> None:
        reporter.begin(Step.CALIBRATE, 0, f"another process is calibrating {key}; waiting for it")

    with locked(store / "locks" / f"calibration-{key}", on_wait=on_wait):
        found = _read_finished(path, wanted.checkpoint)
        if found is None:
            found = _compute_amax(wanted, path, reporter)
            _publish(found, wanted.inputs, path)
        shutil.rmtree(_get_work_folder(path), ignore_errors=True)
    digest = hashlib.sha256(to_canonical_json(found.to_json()).encode()).hexdigest()
    return CalibrationResult(found, digest, path)


def _read_finished(path: Path, checkpoint: SourceCheckpoint) -> Amax | None:
    """Read a finished calibration; None if it is missing or damaged."""
    family = FAMILIES[checkpoint.config.architecture]
    linear = family.list_linear_modules(checkpoint.config)
    attention = family.list_attention_modules(checkpoint.config)
    try:
        amax = read_amax(path / "amax.json", linear, attention)
    except (BadConfig, MissingFile):
        return None
    return amax if amax.kv else None


def _compute_amax(wanted: _CalibrationJob, path: Path, reporter: Reporter) -> Amax:
    import torch

    from llmjp_builder.quantize.calibration.layerwise import CalibrationTask, calibrate_layers

    checkpoint, tokens, inputs = wanted.checkpoint, wanted.tokens, wanted.inputs
    work = _get_work_folder(path)
    with os_errors(work):
        work.mkdir(exist_ok=True)
    task = CalibrationTask(checkpoint, inputs.dtype, tokens, torch.device(inputs.device), work)
    try:
        return calibrate_layers(task, reporter)
    except torch.OutOfMemoryError as exc:
        raise NotEnoughGpuMemory(
            f"{checkpoint.folder}: one layer and one text of {tokens.longest} tokens do not fit "
            "into the GPU's memory; free it, allow fewer tokens, or calibrate on the CPU"
        ) from exc
    except (MemoryError, RuntimeError) as exc:
        if isinstance(exc, RuntimeError) and "can't allocate memory" not in str(exc):
            raise
        raise NotEnoughHostMemory(
            f"{checkpoint.folder}: one layer and one text of {tokens.longest} tokens do not fit "
            "into memory; allow fewer tokens or use a larger machine"
        ) from exc


def _get_work_folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _publish(amax: Amax, inputs: CalibrationInputs, path: Path) -> None:
    import torch

    result = _get_work_folder(path) / "result"
    with os_errors(result):
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir()
    described = {
        "key": inputs.key,
        "inputs": asdict(inputs),
        "versions": {"torch": torch.__version__},
    }
    write_durably(result / "calibration.json", to_pretty_json(described).encode())
    write_durably(result / "amax.json", to_pretty_json(amax.to_json()).encode())
    sync_directory(result)
    with os_errors(path):
        shutil.rmtree(path, ignore_errors=True)
        result.rename(path)
    sync_directory(path.parent)
