"""Scaled rotary embeddings: what config.json says of them, and the frequencies. Pure.

The formulas are those of transformers (4.57 to 5, modeling_rope_utils.py), in float32 and in its
order, so that every frequency is the same number. They start from theta ** (2 i / d), the powers,
which the caller computes as for a plain model: an inverse frequency is the inverse of a power.

Kinds that change with the length of a text (dynamic, longrope) are refused by name: a key that is
cached was rotated for the length of then.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmjp_builder.contracts.errors import BadConfig, UnsupportedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FLOAT32: Final = struct.Struct("f")
_LARGEST: Final = 3.4e38
"""Finite in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearScaling:
    """Every position divided by a factor."""

    factor: float

    attention_factor = 1.0

    def compute_frequencies(self, powers: Sequence[float], theta: float) -> list[float]:
        """Return the inverse frequencies, one for each power of `theta`."""
        del theta
        factor = _single(self.factor)
        return [_single(_invert(power) / factor) for power in powers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama3Scaling:
    """Llama 3.1: long wavelengths are divided, short ones stay, those between are blended."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_positions: int
    """Positions that the model had before it was extended."""

    attention_factor = 1.0

    def compute_frequencies(self, powers: Sequence[float], theta: float) -> list[float]:
        """Return the inverse frequencies, one for each power of `theta`."""
        del theta
        return [self._scale(_invert(power)) for power in powers]

    def _scale(self, frequency: float) -> float:
        factor, low = _single(self.factor), _single(self.low_freq_factor)
        wavelength = _single(_invert(frequency) * _single(2 * math.pi))
        if wavelength < _single(self.original_positions / self.high_freq_factor):
            return frequency
        if wavelength > _single(self.original_positions / self.low_freq_factor):
            return _single(frequency / factor)
        span = _single(self.high_freq_factor - self.low_freq_factor)
        turns = _single(_invert(wavelength) * self.original_positions)
        smooth = _single(_single(turns - low) / span)
        divided = _single(_single(_single(1 - smooth) * frequency) / factor)
        return _single(divided + _single(smooth * frequency))


@dataclass(frozen=True, slots=True, kw_only=True)
class YarnScaling:
    """YaRN: frequencies are divided along a ramp, and attention is sharpened."""

    factor: float
    original_positions: int
    """Positions that the model had before it was extended."""
    attention_factor: float
    """What cosines and sines are multiplied by."""
    beta_fast: float
    beta_slow: float
    truncate: bool
    """The ramp begins and ends at whole dimensions."""

    def compute_frequencies(self, powers: Sequence[float], theta: float) -> list[float]:
        """Return the inverse frequencies, one for each power of `theta`."""
        low, high = self._find_ramp(2 * len(powers), theta)
        begin, span, factor = _single(low), _single(high - low), _single(self.factor)
        frequencies = []
        for index, power in enumerate(powers):
            ramp = min(max(_single(_single(index - begin) / span), 0.0), 1.0)
            kept = _single(1 - ramp)
            divided = _invert(_single(factor * power))
            part = _single(divided * _single(1 - kept))
            frequencies.append(_single(part + _single(_invert(power) * kept)))
        return frequencies

    def _find_ramp(self, width: int, theta: float) -> tuple[float, float]:
        """Return where the ramp begins and ends, counted in frequencies."""
        low, high = (
            width
            * math.log(self.original_positions / (turns * 2 * math.pi))
            / (2 * math.log(theta))
            for turns in (self.beta_fast, self.beta_slow)
        )
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, width - 1)
        return (low, high + 0.001) if low == high else (low, high)


RopeScaling = LinearScaling | Llama3Scaling | YarnScaling


def parse_rope_scaling(
    document: Mapping[str, Any] | None, where: str, *, max_positions: int, theta: float
) -> RopeScaling | None:
    """Parse `rope_scaling`, `rope_parameters` or `rotary_scaling`; None for a plain embedding.

    Args:
        document: the object; None where there is none.
        where: its file and key, for messages.
        max_positions: max_position_embeddings, which transformers takes for the original ones
            where the object does not tell them.
        theta: base of the embedding.

    Raises:
        UnsupportedRequest: a kind that is not computed here.
        BadConfig: a number is missing or impossible.
    """
    fields = _Fields(document or {}, where)
    kind = fields.read_kind()
    match kind:
        case "default":
            return None
        case "linear":
            return LinearScaling(factor=fields.read_number("factor"))
        case "llama3":
            return _parse_llama3(fields, max_positions)
        case "yarn":
            return _parse_yarn(fields, max_positions, theta)
        case _:
            raise UnsupportedRequest(
                f"{where}: rope_type is {kind!r}; supported: default, linear, llama3, yarn"
            )


def _parse_llama3(fields: _Fields, max_positions: int) -> Llama3Scaling:
    parsed = Llama3Scaling(
        factor=fields.read_number("factor"),
        low_freq_factor=fields.read_number("low_freq_factor"),
        high_freq_factor=fields.read_number("high_freq_factor"),
        original_positions=fields.read_positions(max_positions),
    )
    if parsed.high_freq_factor <= parsed.low_freq_factor:
        raise BadConfig(
            f"{fields.where}: high_freq_factor {parsed.high_freq_factor:g} must be more than "
            f"low_freq_factor {parsed.low_freq_factor:g}"
        )
    return parsed


def _parse_yarn(fields: _Fields, max_positions: int, theta: float) -> YarnScaling:
    if theta <= 1:
        raise BadConfig(f"{fields.where}: yarn needs a rope_theta above 1, found {theta:g}")
    factor = fields.read_number("factor")
    given = None
    if fields.document.get("attention_factor") is not None:
        given = fields.read_number("attention_factor")
    whole, part = fields.read_optional("mscale"), fields.read_optional("mscale_all_dim")
    if whole is not None and part is not None:
        derived = _derive_attention_factor(factor, whole) / _derive_attention_factor(factor, part)
    else:
        derived = _derive_attention_factor(factor)
    fast, slow = fields.read_optional("beta_fast"), fields.read_optional("beta_slow")
    parsed = YarnScaling(
        factor=factor,
        original_positions=fields.read_positions(max_positions),
        attention_factor=derived if given is None else given,
        beta_fast=32.0 if fast is None else fast,
        beta_slow=1.0 if slow is None else slow,
        truncate=fields.read_flag("truncate", default=True),
    )
    if parsed.beta_fast < parsed.beta_slow:
        raise BadConfig(
            f"{fields.where}: beta_fast {parsed.beta_fast:g} must not be less than "
            f"beta_slow {parsed.beta_slow:g}"
        )
    return parsed


def _derive_attention_factor(factor: float, weight: float = 1.0) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


@dataclass(frozen=True, slots=True)
class _Fields:
    """Typed access to the object; a key whose value is null counts as absent."""

    document: Mapping[str, Any]
    where: str

    def read_kind(self) -> str:
        """Return the kind: `rope_type`, or `type` as it was called before."""
        kinds = {key: self.document.get(key) for key in ("rope_type", "type")}
        given = [kind for kind in kinds.values() if kind is not None]
        if not all(isinstance(kind, str) for kind in given) or len(set(given)) > 1:
            raise BadConfig(f"{self.where}: expected one kind, found {kinds}")
        nested = next((k for k, v in self.document.items() if isinstance(v, dict)), None)
        if nested is not None and not given:
            raise UnsupportedRequest(
                f"{self.where}: has an object {nested!r}: a scaling for each kind of layer is not "
                "computed here"
            )
        require_whole_heads(self.document, self.where)
        return given[0] if given else "default"

    def read_number(self, key: str) -> float:
        value = self.document.get(key)
        if type(value) not in {int, float} or not 0 < value <= _LARGEST:  # type: ignore[operator]
            raise BadConfig(f"{self.where}: {key} must be a positive number, found {value!r}")
        return float(value)  # type: ignore[arg-type]

    def read_optional(self, key: str) -> float | None:
        """Return a number; None where it is absent or 0, which mean the same to transformers."""
        found = self.document.get(key)
        return None if found is None or found == 0 else self.read_number(key)

    def read_positions(self, default: int) -> int:
        key = "original_max_position_embeddings"
        value = self.document.get(key)
        if value is None:
            return default
        if type(value) is not int or not 0 < value < 1 << 31:
            raise BadConfig(f"{self.where}: {key} must be a positive integer, found {value!r}")
        return value

    def read_flag(self, key: str, *, default: bool) -> bool:
        value = self.document.get(key)
        if value is None:
            return default
        if type(value) is not bool:
            raise BadConfig(f"{self.where}: {key} must be true or false, found {value!r}")
        return value


def require_whole_heads(document: Mapping[str, Any], where: str) -> None:
    """Raise where only a part of each head is rotated; in `rope_parameters` or beside it.

    Raises:
        UnsupportedRequest: that is not computed here.
    """
    rotated = document.get("partial_rotary_factor")
    if rotated is not None and rotated != 1:
        raise UnsupportedRequest(
            f"{where}: partial_rotary_factor is {rotated!r}; only whole heads are rotated here"
        )


def list_lost_settings(document: Mapping[str, Any], scaling: RopeScaling) -> Iterable[str]:
    """Yield what TensorRT-LLM would not take from the object, so that its text would drift.

    It assumes 4096 or 1024 original positions where none are told, and derives the attention
    factor of YaRN from the scales alone (tensorrt_llm/layers/attention.py, functional.py and
    _torch/attention_backend/interface.py of 1.2.1).
    """
    if isinstance(scaling, LinearScaling):
        return
    if document.get("original_max_position_embeddings") is None:
        yield "original_max_position_embeddings is missing"
    if isinstance(scaling, YarnScaling):
        whole, part = document.get("mscale", 1.0), document.get("mscale_all_dim", 0.0)
        theirs = _derive_attention_factor(scaling.factor, whole or 0.0)
        theirs /= _derive_attention_factor(scaling.factor, part or 0.0)
        if not math.isclose(scaling.attention_factor, theirs):
            yield f"attention_factor is {scaling.attention_factor:g}, not {theirs:g}"
        if not scaling.truncate:
            yield "truncate is false"


def _single(value: float) -> float:
    """Round to float32: one operation on such numbers, rounded again, is exact arithmetic."""
    if abs(value) > _LARGEST:
        return math.copysign(math.inf, value)
    (rounded,) = _FLOAT32.unpack(_FLOAT32.pack(value))
    return float(rounded)


def _invert(value: float) -> float:
    return _single(1 / value) if value else math.inf
