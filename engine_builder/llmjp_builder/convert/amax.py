"""Amax, the largest activations seen: the seam between calibration and conversion.

    {"activation_amax": {"model.layers.0.self_attn.q_proj": 3.40625, ...},
     "kv_amax": {"model.layers.0.self_attn": {"k": 12.5, "v": 1.75}, ...}}

Keys are Hugging Face's module names: every linear layer of the decoder, by its input; and every
attention, by its keys after the rotary embedding and its values. Without `kv_amax` the KV scales
are 1, which they also are for any amax up to 448.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from llmjp_builder.contracts.errors import BadConfig
from llmjp_builder.contracts.spec import to_canonical_json
from llmjp_builder.convert import fp8
from llmjp_builder.store.files import read_json_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from llmjp_builder.convert.splits import ScaleRule

_KV = ("k", "v")


@dataclass(frozen=True, slots=True)
class Amax:
    """Amax by module. All numbers are positive, and each has a scale within float32."""

    activations: Mapping[str, float]
    """By linear layer: amax of its input."""
    kv: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By attention module: amax of keys (`k`) and of values (`v`)."""

    def compute_scale(self, scale: ScaleRule) -> np.float32:
        """Return the number for one scale.

        It names linear layers by their module, keys and values by attention's name and `.k`, `.v`.
        """
        found = [amax for name in scale.amax_of if (amax := self._find(name)) is not None]
        number = fp8.compute_scale(max(found)) if found else np.float32(0)
        return max(number, np.float32(scale.least))

    def digest_scales(self, scales: Iterable[ScaleRule]) -> str:
        """Return the SHA-256 of the numbers that `scales` need, and of nothing else."""
        numbers = {" ".join(scale.amax_of): float(self.compute_scale(scale)) for scale in scales}
        return hashlib.sha256(to_canonical_json(numbers).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the document that `parse_amax` reads."""
        document: dict[str, Any] = {"activation_amax": dict(self.activations)}
        if self.kv:
            document["kv_amax"] = {name: dict(entry) for name, entry in self.kv.items()}
        return document

    def _find(self, name: str) -> float | None:
        if (amax := self.activations.get(name)) is not None:
            return amax
        attention, _, letter = name.rpartition(".")
        return self.kv[attention][letter] if attention in self.kv else None


def read_amax(path: Path, linear: Iterable[str], attention: Iterable[str]) -> Amax:
    """Read and parse a JSON file of amax.

    Raises:
        BadConfig: as `parse_amax`, or it is not a JSON object.
        MissingFile: it is not there.
    """
    return parse_amax(read_json_object(path), linear, attention, str(path))


def parse_amax(
    document: Mapping[str, Any], linear: Iterable[str], attention: Iterable[str], where: str
) -> Amax:
    """Parse a document of amax.

    Args:
        document: parsed JSON.
        linear: names of the model's linear layers; the document must have exactly these.
        attention: names of its attentions; exactly these, or none at all.
        where: the file's path, for messages.

    Raises:
        BadConfig: a module is missing or unknown, or a number is impossible.
    """
    if unknown := sorted(document.keys() - {"activation_amax", "kv_amax"}):
        raise BadConfig(
            f"{where}: unknown member {unknown[0]!r}; expected activation_amax and perhaps kv_amax"
        )
    if document.get("activation_amax") is None:
        raise BadConfig(f"{where}: no activation_amax")
    activations = _parse_modules(document, "activation_amax", linear, where)
    kv = {}
    if document.get("kv_amax"):
        kv = _parse_modules(document, "kv_amax", attention, where)
    return Amax(
        {name: _parse_number(value, f"{where}: {name}") for name, value in activations.items()},
        {name: _parse_pair(value, f"{where}: {name}") for name, value in kv.items()},
    )


def _parse_modules(
    document: Mapping[str, Any], member: str, expected: Iterable[str], where: str
) -> dict[str, Any]:
    found, names = document[member], tuple(expected)
    if not isinstance(found, dict):
        raise BadConfig(f"{where}: {member} must be an object")
    if missing := [name for name in names if name not in found]:
        raise BadConfig(f"{where}: {member}: {missing[0]} is missing; the model has it")
    if unknown := sorted(found.keys() - set(names)):
        raise BadConfig(f"{where}: {member}: {unknown[0]} is no such module of this model")
    return {name: found[name] for name in names}


def _parse_pair(value: Any, where: str) -> dict[str, float]:
    if not isinstance(value, dict) or value.keys() != set(_KV):
        raise BadConfig(f"{where}: expected an object with a number for k and one for v")
    return {letter: _parse_number(value[letter], f"{where}: {letter}") for letter in _KV}


def _parse_number(value: Any, where: str) -> float:
    if type(value) not in {int, float} or not 0 < value < math.inf:
        raise BadConfig(f"{where}: an amax is a positive number, found {value!r}")
    try:
        fp8.compute_scale(value)
    except fp8.NotQuantisable as exc:
        raise BadConfig(f"{where}: {exc}") from exc
    return float(value)
