"""Element types: against exact integer arithmetic, not against torch itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmjp_builder.convert.cast import ValueTooLarge, cast_rows

words = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=200)


def as_bytes(array: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    return array.reshape(1, -1).view(np.uint8).copy()


def rounded_to_bf16(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint16]:
    """Round to nearest, ties to even, on the bits of finite float32 numbers."""
    wide = bits.astype(np.uint64)
    return ((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16).astype(np.uint16)


@settings(deadline=None)  # the first call imports torch
@given(words)
def test_float32_to_bfloat16(values: list[int]) -> None:
    bits = np.array(values, np.uint32)
    bits = bits[(bits & 0x7FFFFFFF) < 0x7F7F8000]  # what rounds to infinity is tested below
    if bits.size:
        found = cast_rows(as_bytes(bits), "F32", "BF16").view(np.uint16).reshape(-1)
        assert found.tolist() == rounded_to_bf16(bits).tolist()


@given(st.lists(st.floats(-65000, 65000, width=32), min_size=1, max_size=100))
def test_float32_to_float16(values: list[float]) -> None:
    numbers = np.array(values, np.float32)
    found = cast_rows(as_bytes(numbers), "F32", "F16").view(np.float16).reshape(-1)
    assert found.tobytes() == numbers.astype(np.float16).tobytes()


@given(st.lists(st.integers(0, 0x477F), min_size=1, max_size=100))
def test_bfloat16_to_float16(values: list[int]) -> None:
    bits = np.array(values, np.uint16)
    numbers = (bits.astype(np.uint32) << 16).view(np.float32)
    found = cast_rows(as_bytes(bits), "BF16", "F16").view(np.float16).reshape(-1)
    assert found.tobytes() == numbers.astype(np.float16).tobytes()


@given(st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=1))
def test_float16_to_bfloat16(values: list[float]) -> None:
    halves = np.array(values, np.float16)
    found = cast_rows(as_bytes(halves), "F16", "BF16").view(np.uint16).reshape(-1)
    bits = halves.astype(np.float32).view(np.uint32)
    assert found.tolist() == rounded_to_bf16(bits).tolist()


@pytest.mark.parametrize(("value", "target"), [(65520.0, "F16"), (-1e6, "F16"), (3.4e38, "BF16")])
def test_a_number_that_would_become_infinite_is_refused(value: float, target: str) -> None:
    with pytest.raises(ValueTooLarge, match="does not fit"):
        cast_rows(as_bytes(np.array([1.0, value], np.float32)), "F32", target)


def test_what_is_infinite_or_nan_already_stays() -> None:
    numbers = np.array([np.inf, -np.inf, np.nan], np.float32)
    found = cast_rows(as_bytes(numbers), "F32", "F16").view(np.float16).reshape(-1)
    assert np.array_equal(found, numbers.astype(np.float16), equal_nan=True)
