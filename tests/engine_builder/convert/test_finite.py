"""Infinity and NaN are found wherever they stand, and refused on every way into a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import BadTensors
from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.conversion import prepare_ranks, write_conversion
from llmjp_builder.convert.finite import find_non_finite
from llmjp_builder.quantize.unified import prepare_unified
from tests.engine_builder.checkpoints import Tiny, add_tokenizer, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

TORCH = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
BITS = {
    "BF16": (0x7F80, 0xFF80, 0x7FC0, 0xFF81),
    "F16": (0x7C00, 0xFC00, 0x7E00, 0xFC01),
    "F32": (0x7F800000, 0xFF800000, 0x7FC00000, 0xFF800001),
}
"""Infinities and NaNs of both signs."""
DIVISIBLE = Tiny(hidden=32, inter=32, heads=4, kv_heads=4, head_size=8)


def unsigned(dtype: str) -> Any:
    return np.uint32 if dtype == "F32" else np.uint16


@given(st.sampled_from(sorted(TORCH)), st.binary(min_size=4, max_size=400))
def test_the_first_one_by_any_bits(dtype: str, raw: bytes) -> None:
    size = np.dtype(unsigned(dtype)).itemsize
    data = np.frombuffer(raw[: len(raw) // size * size], np.uint8)
    values = torch.from_numpy(data.copy()).view(TORCH[dtype])
    expected = (~values.isfinite()).nonzero().flatten().tolist()
    assert find_non_finite(data, dtype) == (expected[0] if expected else None)


@pytest.mark.parametrize("place", [0, 65_535, 65_536, 199_999])
@pytest.mark.parametrize("dtype", BITS)
def test_at_the_seams_of_what_is_taken_at_once(dtype: str, place: int) -> None:
    words = np.full(200_000, BITS[dtype][0] - 1, unsigned(dtype))
    assert find_non_finite(words.view(np.uint8), dtype) is None
    for bits in BITS[dtype]:
        words[place] = bits
        assert find_non_finite(words.view(np.uint8), dtype) == place


def test_other_types_hold_none() -> None:
    assert find_non_finite(np.full(8, 0xFF, np.uint8), "I32") is None


@pytest.mark.parametrize("options", [{}, {"tensor_parallel": 2}, {"dtype": "float16"}])
@pytest.mark.parametrize("prepare", [prepare_ranks, prepare_unified])
@pytest.mark.parametrize(
    "name",
    ["model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight", "model.norm.weight"],
)
@pytest.mark.parametrize("dtype", BITS)
def test_no_way_into_a_result(
    dtype: str, name: str, prepare: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    """Copied by the kernel, divided, or cast."""
    model = Tiny(dtype=dtype)
    weights = model.weights()
    flat = weights[name].reshape(-1).copy()
    flat.view(unsigned(dtype))[3] = BITS[dtype][2]
    weights[name] = flat.reshape(weights[name].shape)
    source = add_tokenizer(write_checkpoint(tmp_path / "hf", model, weights))
    (tmp_path / "out").mkdir()
    conversion = prepare(source, LayoutOptions(**options))
    with pytest.raises(BadTensors, match=f"{name}: holds infinity or NaN, first at element 3;"):
        write_conversion(conversion, tmp_path / "out", lambda _: None)
