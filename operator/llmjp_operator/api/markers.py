"""What an annotation says about a value besides its type, and the types that fields share.

`Annotated[int, Range(1, 256)]` is read three times: by `decode`, by the schema that the API server
enforces, and by the reference page.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal


@dataclass(frozen=True, slots=True)
class Range:
    """A number between two others, both included."""

    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Length:
    """Characters of a string. Every string has a limit: the cost of a rule is computed from it."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class OneOf:
    """A string out of a table."""

    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matches:
    """A string that a regular expression (RE2, anchored) describes."""

    pattern: str
    sentence: str
    """What a person reads where it does not match."""


@dataclass(frozen=True, slots=True)
class Items:
    """Of a list, at most; `key` is the field that tells its objects apart."""

    most: int
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Entries:
    """Of a map, at most."""

    most: int


@dataclass(frozen=True, slots=True)
class IntegerOrString:
    """A string that may be written as an integer, such as a quantity."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """An object of the Kubernetes API that is passed on; the API server checks it in the pod."""


@dataclass(frozen=True, slots=True)
class Timestamp:
    """RFC 3339, as Kubernetes writes times."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A field that exists only in order to be refused by name, with the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that the API server checks about an object (`x-kubernetes-validations`)."""

    expression: str
    """CEL. `self` is the object, `oldSelf` what it was before a change."""
    sentence: str
    """What a person reads where it is false."""
    field: str = ""
    """Path below the object of the field that is named as wrong; empty: the object itself."""
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
