"""Scales and e4m3 bits: against exact arithmetic on the numbers of e4m3, not against torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmjp_builder.convert import fp8
from llmjp_builder.convert.fp8 import NotQuantisable, Rounding

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint16]


def e4m3_values() -> Floats:
    """The numbers from 0 to 448, by their bits: 4 bits of exponent, biased by 7, 3 of fraction."""
    bits = np.arange(0x7F)
    exponent, fraction = bits >> 3, bits & 7
    normal = np.ldexp(1 + fraction / 8, exponent - 7)
    found: Floats = np.where(exponent == 0, np.ldexp(fraction / 8, -6), normal)
    return found


E4M3 = e4m3_values()


def nearest(values: Floats) -> npt.NDArray[np.uint8]:
    """Bits of the nearest number of e4m3, ties to even bits; exact, since all are dyadic."""
    above = np.clip(np.searchsorted(E4M3, np.abs(values)), 1, len(E4M3) - 1)
    below = above - 1
    up, down = E4M3[above] - np.abs(values), np.abs(values) - E4M3[below]
    bits = np.where((up < down) | ((up == down) & (above % 2 == 0)), above, below)
    found: npt.NDArray[np.uint8] = (bits | (np.signbit(values) * 0x80)).astype(np.uint8)
    return found


def numbers(words: Words, dtype: str) -> npt.NDArray[np.float32]:
    if dtype == "F16":
        return words.view(np.float16).astype(np.float32)
    return (words.astype(np.uint32) << 16).view(np.float32)


def to_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    wide = values.view(np.uint32).astype(np.uint64)
    return (((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)


def up_to(magnitude: int) -> Words:
    """Every bit pattern of a number that is no larger."""
    positive = np.arange(magnitude + 1, dtype=np.uint16)
    return np.concatenate([positive, positive | 0x8000])


magnitudes = st.sampled_from([0x3F80, 0x3DCC, 0x3C01, 0x4234, 0x3FFF, 0x3B99])
"""Of BF16: around the weights of real models."""


@settings(max_examples=20, deadline=None)
@given(magnitudes)
def test_weights_are_rounded_once(magnitude: int) -> None:
    words = up_to(magnitude)
    scale = fp8.compute_weight_scale(magnitude, "BF16")
    table = fp8.build_cast_table("BF16", scale, Rounding.DIRECT)
    quotients = numbers(words, "BF16") / scale
    assert np.array_equal(fp8.look_up(words, table), nearest(quotients.astype(np.float64)))
    assert fp8.look_up(np.array([magnitude], np.uint16), table).tolist() == [0x7E]


@settings(max_examples=20, deadline=None)
@given(magnitudes)
def test_weights_are_rounded_to_bfloat16_first(magnitude: int) -> None:
    words = up_to(magnitude)
    scale = fp8.compute_weight_scale(magnitude, "BF16")
    table = fp8.build_cast_table("BF16", scale, Rounding.STORED_FIRST)
    quotients = to_bf16(numbers(words, "BF16") / scale)
    assert np.array_equal(fp8.look_up(words, table), nearest(quotients.astype(np.float64)))


def test_the_two_roundings_differ() -> None:
    words = up_to(0x3DCC)
    scale = fp8.compute_weight_scale(0x3DCC, "BF16")
    wide, narrow = (fp8.build_cast_table("BF16", scale, r)[words] for r in Rounding)
    assert (wide != narrow).any()


def test_float16() -> None:
    magnitude = int(np.float16(1.75).view(np.uint16))
    scale = fp8.compute_weight_scale(magnitude, "F16")
    assert scale == np.float32(1.75) / np.float32(448)
    words = up_to(magnitude)
    table = fp8.build_cast_table("F16", scale, Rounding.DIRECT)
    quotients = (numbers(words, "F16") / scale).astype(np.float64)
    assert np.array_equal(fp8.look_up(words, table), nearest(quotients))


@given(st.lists(st.integers(0, 0x7F7F), min_size=1), st.booleans())
def test_the_largest_magnitude_ignores_signs(bits: list[int], negative: bool) -> None:
    words = np.array(bits, np.uint16) | np.uint16(0x8000 if negative else 0)
    found = fp8.find_largest_magnitude(words)
    assert found == max(bits)
    assert numbers(np.array([found], np.uint16), "BF16")[0] == np.abs(numbers(words, "BF16")).max()


@pytest.mark.parametrize(
    ("magnitude", "dtype", "reason"),
    [
        (0x7F80, "BF16", "infinity or NaN"),
        (0x7FC0, "BF16", "infinity or NaN"),
        (0x7C00, "F16", "infinity or NaN"),
        (0, "BF16", "nothing but zeros"),
        (1, "BF16", "gives no FP8 scale"),
    ],
)
def test_weights_without_a_scale(magnitude: int, dtype: str, reason: str) -> None:
    with pytest.raises(NotQuantisable, match=reason):
        fp8.compute_weight_scale(magnitude, dtype)


def test_looking_up_keeps_the_shape() -> None:
    table = np.arange(1 << 16).astype(np.uint8)
    words = np.arange(700_000).astype(np.uint16).reshape(700, 1000)
    assert np.array_equal(fp8.look_up(words, table), words.astype(np.uint8))
