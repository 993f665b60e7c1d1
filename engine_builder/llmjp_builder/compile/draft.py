"""Options under examination: what was asked for, what it comes to, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmjp_builder.compile.option_table import ENABLE
from llmjp_builder.contracts.errors import BuilderError, InvalidSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.compile.gpu import Gpu
    from llmjp_builder.compile.model import EngineModel
    from llmjp_builder.contracts.spec import Scalar


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the options that whoever asked for them should know."""

    option: str
    """Of `trtllm-build`, or the field of the spec that it is about."""
    reason: str
    refusal: type[BuilderError] | None = None
    """What to raise; None for a warning."""

    def __str__(self) -> str:
        return f"{self.option}: {self.reason}"


@dataclass(slots=True)
class Draft:
    """What the rules read and change."""

    model: EngineModel
    gpu: Gpu
    asked: Mapping[str, Scalar]
    """What the spec says."""
    values: dict[str, Scalar]
    """What it comes to, of every option that a spec may set."""
    findings: list[Finding] = field(default_factory=list)

    def refuse(self, option: str, reason: str, kind: type[BuilderError] = InvalidSpec) -> None:
        """These options, this model and this GPU do not go together."""
        self.findings.append(Finding(option, reason, kind))

    def warn(self, option: str, reason: str) -> None:
        """They do, but not as one might expect."""
        self.findings.append(Finding(option, reason))

    def settle(self, option: str, value: Scalar, reason: str) -> None:
        """The option comes to `value`, with a warning if something else was asked for."""
        if option in self.asked and self.values[option] != value:
            self.warn(
                option, f"{self.values[option]} is not what happens: {reason}; taking {value}"
            )
        self.values[option] = value

    def enabled(self, option: str) -> bool:
        """Whether a switch comes to `enable`."""
        return self.values[option] == ENABLE

    def number(self, option: str) -> int:
        """What an integer option comes to."""
        value = self.values[option]
        assert isinstance(value, int)
        return value
