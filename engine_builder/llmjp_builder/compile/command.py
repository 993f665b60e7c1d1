"""The exact command line of `trtllm-build` (TensorRT-LLM 1.2.1). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.compile.option_table import OPTIONS

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_builder.compile.options import CompileOptions

ENGINE = "engine"
TIMING_CACHE = "timing.cache"
INPUT_TIMING_CACHE = "input-timing.cache"
"""Names in the working folder of the process, not paths: `trtllm-build` writes them into the
engine's config.json, where no path of this machine belongs."""

_GIB = 1 << 30
_PEAK_PER_WEIGHT = 3
"""Host memory that building one rank takes, in units of its weights: logs in public threads show
2.2 (a 9b model on one rank) and 2.7 (a 49b model on two)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """How many ranks are built at once, and what decided it."""

    count: int
    reason: str


def workers(*, world: int, gpus: int, rank_bytes: int, memory_available: int | None) -> Workers:
    """One rank per GPU at once, as far as the host's memory goes.

    Args:
        world: number of ranks.
        gpus: number of GPUs; `trtllm-build` builds rank r on GPU r mod workers.
        rank_bytes: weights of the largest rank.
        memory_available: bytes that may still be taken on the host; None if unknown.
    """
    parallel = min(world, gpus)
    if memory_available is None:
        return Workers(count=parallel, reason=f"{world} ranks, {gpus} GPUs")
    fitting = max(1, memory_available // max(1, _PEAK_PER_WEIGHT * rank_bytes))
    reason = f"{world} ranks, {gpus} GPUs, {memory_available / _GIB:.0f} GiB of host memory"
    return Workers(count=min(parallel, fitting), reason=reason)


def command(
    program: Path, options: CompileOptions, *, checkpoint: Path, num_workers: int
) -> tuple[str, ...]:
    """Argument vector, to be run in a folder of its own.

    `ENGINE` and `TIMING_CACHE` appear in that folder. The timing cache is read as well where it can
    be: one rank after the other, a later rank profits from what the first has measured; of ranks
    built at once, one could read it while another writes.
    """
    arguments = [
        str(program),
        "--checkpoint_dir",
        str(checkpoint.absolute()),
        "--output_dir",
        ENGINE,
        "--workers",
        str(num_workers),
        "--input_timing_cache",
        TIMING_CACHE if num_workers == 1 else INPUT_TIMING_CACHE,
        "--output_timing_cache",
        TIMING_CACHE,
        "--log_level",
        "info",
    ]
    for name, value in options.values.items():
        match OPTIONS[name].form:
            case "flag":
                arguments += [f"--{name}"] if value else []
            case "int" | "text" | "choice" | "switch":
                arguments += [f"--{name}", str(value)]
    return tuple(arguments)
