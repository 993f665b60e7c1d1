"""Quantities as the API server spells them (k8s.io/apimachinery/pkg/api/resource). Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_BINARY: Final = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL: Final = {"n": -3, "u": -2, "m": -1, "": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_KNOWN: Final = _BINARY.keys() | _DECIMAL.keys()
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]{0,2})")


def normalize_quantity(quantity: str) -> str:
    """Return the quantity as the API server returns it: no fraction, the largest suffix.

    A binary suffix is kept only if the quantity is whole in some binary unit.
    """
    match = _QUANTITY.fullmatch(quantity)
    assert match is not None, "the API server refuses other quantities"
    number, suffix = Decimal(match[1]), match[2]
    if suffix in _BINARY:
        value = number * Decimal(1024) ** _BINARY[suffix]
        return _format_scaled(value, 1024, dict(reversed(_BINARY.items()))) if value else "0"
    value = number * Decimal(1000) ** _DECIMAL[suffix]
    return _format_scaled(value, 1000, dict(reversed(_DECIMAL.items()))) if value else "0"


def normalize_if_valid(quantity: str | float) -> str:
    """Return an unchecked quantity normalized, or unchanged if the API server will refuse it."""
    text = str(quantity)
    return (
        normalize_quantity(text)
        if _QUANTITY.fullmatch(text) and _get_suffix(text) in _KNOWN
        else text
    )


def _get_suffix(quantity: str) -> str:
    return quantity.lstrip("0123456789.")


def _format_scaled(value: Decimal, base: int, suffixes: Mapping[str, int]) -> str:
    for suffix, power in suffixes.items():
        scaled = value / Decimal(base) ** power
        if scaled == scaled.to_integral_value() and scaled >= 1:
            return f"{int(scaled)}{suffix}"
    # A fraction of a byte, or bytes that are whole in no binary unit.
    return (
        normalize_quantity(f"{value.normalize():f}") if base == 1024 else f"{int(value * 10**9)}n"
    )


def format_mebibytes(count: int) -> str:
    """Return a number of bytes, rounded up to whole MiB."""
    return normalize_quantity(f"{-(-count // (1 << 20))}Mi")


def render_resources(
    estimate: Mapping[str, Mapping[str, str]],
    given: tuple[Mapping[str, str] | None, Mapping[str, str] | None],
    gpus: int,
    gpu: str,
) -> dict[str, dict[str, str]]:
    """Return requests and limits of a container from estimates, the spec and GPUs.

    Args:
        estimate: `requests` and `limits`.
        given: requests and limits of the spec, which win. A limit below an estimated request lowers
            the request; a request above an estimated limit raises the limit.
        gpus: number of GPUs.
        gpu: name of the GPU resource.
    """
    requests = {**estimate.get("requests", {}), **(given[0] or {})}
    limits = {**estimate.get("limits", {}), **(given[1] or {})}
    for name, limit in limits.items():
        if name in requests and name not in (given[0] or {}) and _is_less(limit, requests[name]):
            requests[name] = limit
    for name, request in (given[0] or {}).items():
        if name in limits and name not in (given[1] or {}) and _is_less(limits[name], request):
            limits[name] = request
    for name, request in (given[0] or {}).items():
        if _needs_limit(name):
            limits.setdefault(name, request)
    if gpus:
        requests[gpu] = limits[gpu] = str(gpus)
    found = {"requests": requests, "limits": limits}
    return {
        kind: {name: normalize_quantity(value) for name, value in sorted(values.items())}
        for kind, values in found.items()
        if values
    }


def _needs_limit(name: str) -> bool:
    """Return whether a request needs an equal limit: extended resources and huge pages do."""
    return "/" in name or name.startswith("hugepages-")


def _is_less(one: str, other: str) -> bool:
    return _parse_value(one) < _parse_value(other)


def _parse_value(quantity: str) -> Decimal:
    match = _QUANTITY.fullmatch(quantity)
    assert match is not None, "the API server refuses other quantities"
    number, suffix = Decimal(match[1]), match[2]
    if suffix in _BINARY:
        return number * Decimal(1024) ** _BINARY[suffix]
    return number * Decimal(1000) ** _DECIMAL[suffix]
