"""Progress of `trtllm-build`, read from the lines of its log. Pure.

Known from the source (tensorrt_llm/builder.py, _common.py, commands/build.py) and from logs in
public threads; per rank, in this order:

    [TRT-LLM] [I] Build TensorRT engine Unnamed Network 0
    [TRT-LLM] [I] Total time of building Unnamed Network 0: 00:00:22
    [TRT-LLM] [I] Timing cache serialized to FILE                       (rank 0 only)
    [TRT-LLM] [I] Serializing engine to FOLDER/rank0.engine...
    [TRT-LLM] [I] Engine serialized. Total time: 00:00:19

Lines of ranks that are built at once come in any order, so ranks are counted, not named. A line
that is not known changes nothing: with another version's wording the build only looks slow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NETWORK = re.compile(r"\bBuild TensorRT engine\b")
_COMPILED = re.compile(r"\bTotal time of building (?!all engines)")
_SERIALIZED = re.compile(r"\bEngine serialized\.")
_CACHED = re.compile(r"\bTiming cache serialized to\b")

_SHARES = (0.15, 0.45, 0.4)
"""Shares of a rank's time for loading, compiling and writing, from one log of a 9b model (47 s)."""


@dataclass(slots=True)
class BuildLog:
    """The milestones in the lines read so far."""

    world: int
    networks: int = 0
    compiled: int = 0
    serialized: int = 0
    timing_cache_written: bool = False
    _patterns: tuple[tuple[re.Pattern[str], str], ...] = field(
        default=((_NETWORK, "networks"), (_COMPILED, "compiled"), (_SERIALIZED, "serialized")),
        repr=False,
    )

    def read(self, line: str) -> bool:
        """Read the next line and return whether it changed anything."""
        if _CACHED.search(line):
            self.timing_cache_written = True
            return True
        for pattern, name in self._patterns:
            if pattern.search(line) and getattr(self, name) < self.world:
                setattr(self, name, getattr(self, name) + 1)
                return True
        return False

    @property
    def fraction(self) -> float:
        """The share of all ranks' work that is done, 0 to 1; it never falls."""
        steps = (self.networks, self.compiled, self.serialized)
        done = sum(share * count for share, count in zip(_SHARES, steps, strict=True))
        return min(1.0, done / self.world)

    def estimate_seconds_left(self, elapsed_s: float) -> float | None:
        """Return the seconds left at the pace so far; None until one rank is compiled."""
        if not self.compiled or not self.fraction:
            return None
        return elapsed_s * (1 - self.fraction) / self.fraction

    @property
    def message(self) -> str:
        """One line for people."""
        if self.serialized == self.world:
            return f"{self.world} of {self.world} engines written"
        return (
            f"{self.compiled} of {self.world} engines compiled, {self.serialized} written"
            if self.networks
            else f"loading weights for {self.world} engines"
        )
