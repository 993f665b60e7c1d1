"""Resources of pods, and nodes that they may run on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from llmjp_builder.contracts.constraints import Entries, Length
from llmjp_operator.api.field_types import CelRule, Quantity
from llmjp_operator.names import GPU

Quantities = Annotated[Mapping[str, Quantity], Entries(16)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Requests and limits of one container, besides GPUs."""

    RULES: ClassVar[tuple[CelRule, ...]] = tuple(
        CelRule(
            f"!has(self.{kind}) || !('{GPU}' in self.{kind})",
            f"leave {GPU} out: the operator asks for as many GPUs as the engine needs",
            f".{kind}",
            "FieldValueForbidden",
        )
        for kind in ("requests", "limits")
    )

    requests: Quantities | None = None
    """By resource. Where cpu or memory is left out, the operator estimates it."""
    limits: Quantities | None = None
    """By resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """A node taint that the pods tolerate."""

    key: Annotated[str, Length(1, 316)] | None = None
    """Key of the taint; left out: every key."""
    operator: Literal["Exists", "Equal"] | None = None
    """Left out: `Equal`."""
    value: Annotated[str, Length(0, 63)] | None = None
    """Value of the taint, for operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; left out: every effect."""
    toleration_seconds: int | None = None
    """Seconds that a pod stays on a node with a new NoExecute taint; left out: indefinitely."""
