"""Options under review: what was requested, what is used instead, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmjp_builder.compile.option_table import ENABLE
from llmjp_builder.contracts.errors import BuilderError, InvalidSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.compile.gpu import Gpu
    from llmjp_builder.compile.model import CompilerModel
    from llmjp_builder.contracts.spec import Scalar


@dataclass(frozen=True, slots=True)
class OptionFinding:
    """A refusal or warning about one option."""

    option: str
    """Name of an option of `trtllm-build`, or of a field of the spec."""
    reason: str
    refusal: type[BuilderError] | None = None
    """The error to raise; None for a warning."""

    def __str__(self) -> str:
        return f"{self.option}: {self.reason}"


@dataclass(slots=True)
class OptionReview:
    """The options that the rules read and change, with their findings so far."""

    model: CompilerModel
    gpu: Gpu
    requested: Mapping[str, Scalar]
    """Values in the spec."""
    values: dict[str, Scalar]
    """Current value of every option that a spec may set."""
    findings: list[OptionFinding] = field(default_factory=list)

    def refuse(self, option: str, reason: str, kind: type[BuilderError] = InvalidSpec) -> None:
        """Record that these options, this model and this GPU do not work together."""
        self.findings.append(OptionFinding(option, reason, kind))

    def warn(self, option: str, reason: str) -> None:
        """Record that they work, but not as one might expect."""
        self.findings.append(OptionFinding(option, reason))

    def override(self, option: str, value: Scalar, reason: str) -> None:
        """Set the option to `value`, with a warning if another value was requested."""
        if option in self.requested and self.values[option] != value:
            self.warn(option, f"{self.values[option]} has no effect: {reason}; using {value}")
        self.values[option] = value

    def is_enabled(self, option: str) -> bool:
        """Return whether a switch is set to `enable`."""
        return self.values[option] == ENABLE

    def get_number(self, option: str) -> int:
        """Return the value of an integer option."""
        value = self.values[option]
        assert isinstance(value, int)
        return value
