"""Progress of a run of `trtllm-build`, from the lines of its log and the time between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.compile.build_log import BuildLog
from llmjp_builder.contracts.spec import Progress, Step

if TYPE_CHECKING:
    from collections.abc import Callable

_INTERVAL_S = 1.0
"""Seconds between two reports while the log is quiet."""


class CompileProgress:
    """Reports progress whenever the log shows some, and once a second."""

    def __init__(
        self, world: int, sink: Callable[[Progress], None] | None, circumstances: str
    ) -> None:
        self._build = BuildLog(world)
        self._sink = sink
        self._circumstances = circumstances
        self._elapsed_s = self._reported_s = 0.0
        self._report(self._build.fraction)

    @property
    def timing_cache_written(self) -> bool:
        """True once a timing cache was written completely."""
        return self._build.timing_cache_written

    def read_line(self, line: str) -> None:
        """Read the next line of the log."""
        if self._build.read(line):
            self._report(self._build.fraction)

    def tick(self, elapsed_s: float) -> None:
        """Report if a second has passed; `elapsed_s` counts from the start."""
        self._elapsed_s = elapsed_s
        if elapsed_s - self._reported_s >= _INTERVAL_S:
            self._report(self._build.fraction)

    def finish(self) -> None:
        """Report that all engines are there, whatever the lines said."""
        self._report(1.0)

    def _report(self, fraction: float) -> None:
        self._reported_s = self._elapsed_s
        if self._sink is None:
            return
        eta = 0.0 if fraction == 1.0 else self._build.estimate_seconds_left(self._elapsed_s)
        self._sink(
            Progress(
                step=Step.COMPILE,
                percent=round(100 * fraction, 1),
                eta_seconds=None if eta is None else round(eta, 1),
                message=f"{self._build.message} ({self._circumstances})",
            )
        )
