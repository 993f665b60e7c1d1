"""The command line of `trtllm-build` (TensorRT-LLM 1.2.1). Pure."""

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
"""Names in the working folder of the process. `trtllm-build` writes them into the engine's
config.json, where no path of this machine belongs."""

_GIB = 1 << 30
_PEAK_PER_WEIGHT = 3
"""Peak host memory of building one rank, as a multiple of its weights: logs in public threads show
2.2 (a 9b model on one rank) and 2.7 (a 49b model on two)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """The number of ranks to build at once, and what decided it."""

    count: int
    reason: str


def decide_workers(
    *, world: int, gpus: int, rank_bytes: int, memory_available: int | None
) -> Workers:
    """Decide how many ranks to build at once: one per GPU, as far as host memory allows.

    Args:
        world: number of ranks.
        gpus: number of GPUs; `trtllm-build` builds rank r on GPU r mod workers.
        rank_bytes: weights of the largest rank.
        memory_available: bytes of host memory that are free; None if unknown.
    """
    parallel = min(world, gpus)
    if memory_available is None:
        return Workers(count=parallel, reason=f"{world} ranks, {gpus} GPUs")
    fitting = max(1, memory_available // max(1, _PEAK_PER_WEIGHT * rank_bytes))
    reason = f"{world} ranks, {gpus} GPUs, {memory_available / _GIB:.0f} GiB of host memory"
    return Workers(count=min(parallel, fitting), reason=reason)


def render_command(
    program: Path, options: CompileOptions, *, checkpoint: Path, num_workers: int
) -> tuple[str, ...]:
    """Render the argument vector, to be run in a folder of its own.

    `ENGINE` and `TIMING_CACHE` appear in that folder. Ranks that are built one after the other read
    the timing cache that they write, so later ranks reuse what the first has measured. Ranks that
    are built at once read another file, since one could read while another writes.
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
