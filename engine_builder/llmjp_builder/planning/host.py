"""Memory and disk that a build takes of its machine, step by step. Pure.

Conversion streams, within a bound that it keeps at every size. Calibration and compilation are
estimates: their terms are named here, so that measured figures can replace them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmjp_builder.convert.model_config import ModelConfig
    from llmjp_builder.planning.weights import Parameters, RankSize

CONVERT_BYTES = 1_000_000_000
"""Anonymous memory of a conversion, at any size of model."""

CALIBRATION_TOKENS = 512 * 512
"""As modelopt calibrates: 512 texts, of which the first 512 tokens are taken."""

COMPILE_PER_WEIGHT = 3
"""Host memory of `trtllm-build` per rank, in units of its weights; as in `compile.command_line`."""

_HIDDEN_STATE_COPIES = 2
"""A layer's input and its output."""
_HALF_BYTES = 2
_SMALL_FILES = 64 << 20
"""Tokenizer, configuration, manifest, progress and logs, generously."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResources:
    """Needs of one kind of build, whose steps run one after the other."""

    memory_bytes: int
    """Peak over all steps. The page cache comes on top, but the kernel can reclaim it."""
    disk_bytes: int
    """In the store at the end, the source included; nothing is written twice on the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildNeeds:
    """Needs of building one division, by step, and in total for each kind of artefact."""

    convert_memory_bytes: int
    """Fetching takes no more than this."""
    calibrate_memory_bytes: int | None
    """One decoder layer and the activations of all texts; None where nothing is calibrated."""
    compile_memory_bytes: int
    """One rank at a time; ranks that are built at once, one per GPU, each take as much."""
    source_disk_bytes: int
    checkpoint_disk_bytes: int
    engine_disk_bytes: int
    """Assumed to be the weights' size."""
    ranks: BuildResources
    """To build a checkpoint (artefact kind `ranks`)."""
    engine: BuildResources
    """To build an engine."""


def estimate_build_needs(
    config: ModelConfig,
    counted: Parameters,
    files: tuple[RankSize, ...],
    *,
    source_bytes: int,
    fp8: bool,
) -> BuildNeeds:
    """Estimate what building rank files of these sizes needs."""
    calibrate = _estimate_calibration_memory(config, counted) if fp8 else None
    compile_ = CONVERT_BYTES + COMPILE_PER_WEIGHT * max(rank.weights_bytes for rank in files)
    checkpoint = sum(rank.file_bytes for rank in files) + _SMALL_FILES
    engine = sum(rank.weights_bytes for rank in files) + _SMALL_FILES
    memory = max(CONVERT_BYTES, calibrate or 0)
    return BuildNeeds(
        convert_memory_bytes=CONVERT_BYTES,
        calibrate_memory_bytes=calibrate,
        compile_memory_bytes=compile_,
        source_disk_bytes=source_bytes,
        checkpoint_disk_bytes=checkpoint,
        engine_disk_bytes=engine,
        ranks=BuildResources(memory_bytes=memory, disk_bytes=source_bytes + checkpoint),
        engine=BuildResources(
            memory_bytes=max(memory, compile_), disk_bytes=source_bytes + checkpoint + engine
        ),
    )


def _estimate_calibration_memory(config: ModelConfig, counted: Parameters) -> int:
    layer = counted.per_layer * _HALF_BYTES
    states = CALIBRATION_TOKENS * config.hidden_size * _HALF_BYTES * _HIDDEN_STATE_COPIES
    return CONVERT_BYTES + layer + states
