"""Types that fields of the custom resource share, and the rules between fields.

The API server enforces them by the generated schema; `codec` and the reference page read the same
annotations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from llmjp_builder.contracts.constraints import (
    Entries,
    IntegerOrString,
    Items,
    Length,
    Matches,
    Opaque,
)


@dataclass(frozen=True, slots=True)
class CelRule:
    """A rule that the API server checks of an object (`x-kubernetes-validations`)."""

    expression: str
    """CEL: `self` is the object, `oldSelf` the object before a change."""
    sentence: str
    """Message to a person where it is false."""
    field: str = ""
    """Path, below the object, of the field to blame; empty: the object itself."""
    reason: Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"] = (
        "FieldValueInvalid"
    )


OBJECT_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_SENTENCE = "must be the name of a Kubernetes object: small letters, digits, dashes and dots"
ObjectName = Annotated[str, Length(1, 253), Matches(OBJECT_NAME_PATTERN, _SENTENCE)]

DataKey = Annotated[
    str,
    Length(1, 253),
    Matches(
        r"^[-._a-zA-Z0-9]+$",
        "must be a key of a Secret or ConfigMap: letters, digits, dashes, dots and underscores",
    ),
]

Quantity = Annotated[
    str,
    IntegerOrString(),
    Length(1, 32),
    Matches(
        r"^[0-9]+([.][0-9]+)?([munkMGTPE]|[KMGTPE]i)?$",
        "must be a quantity that is not negative, such as 500m, 16Gi or 2",
    ),
]

LabelValue = Annotated[
    str,
    Length(0, 63),
    Matches(
        r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        "must be the value of a label: letters, digits, dashes, dots and underscores",
    ),
]
Labels = Annotated[Mapping[str, LabelValue], Entries(32)]
Annotations = Annotated[Mapping[str, Annotated[str, Length(0, 8192)]], Entries(32)]

OpaqueObject = Annotated[Mapping[str, Any], Opaque()]
OpaqueList = Annotated[tuple[OpaqueObject, ...], Items(64)]
