"""The raw bytes of tensors: tables against the protocol, properties of the round trip."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_client._tensors import Datatype, Value, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("datatype", "values", "raw"),
    [
        ("BYTES", ["あ"], b"\x03\x00\x00\x00\xe3\x81\x82"),
        ("BYTES", ["", "a"], b"\x00\x00\x00\x00\x01\x00\x00\x00a"),
        ("BYTES", [], b""),
        ("INT32", [1, -1], b"\x01\x00\x00\x00\xff\xff\xff\xff"),
        ("FP32", [0.5], b"\x00\x00\x00\x3f"),
        ("UINT64", [2**64 - 1], b"\xff" * 8),
        ("BOOL", [True, False], b"\x01\x00"),
    ],
)
def test_layout(datatype: Datatype, values: Sequence[Value], raw: bytes) -> None:
    assert pack(datatype, values) == raw
    assert unpack(datatype, raw) == list(values)


@given(st.lists(TEXTS))
def test_texts_come_back(texts: list[str]) -> None:
    assert unpack("BYTES", pack("BYTES", texts)) == texts


@given(st.lists(TEXTS, min_size=1), st.data())
def test_a_cut_tensor_is_refused_or_loses_whole_elements(
    texts: list[str], data: st.DataObject
) -> None:
    raw = pack("BYTES", texts)
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    try:
        left = unpack("BYTES", cut)
    except ValueError:
        return
    assert left == texts[: len(left)]
    assert len(left) < len(texts)


@given(st.binary())
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    try:
        texts = unpack("BYTES", raw)
    except ValueError:
        return
    assert pack("BYTES", texts) == raw


@given(st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_ids_come_back(ids: list[int]) -> None:
    assert unpack("INT32", pack("INT32", ids)) == ids


@given(st.floats(width=32, allow_nan=False))
def test_floats_come_back(value: float) -> None:
    assert unpack("FP32", pack("FP32", [value])) == [value]


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("INT32", 2**31),
        ("UINT64", -1),
        ("UINT64", 2**64),
        ("FP32", 1e39),
        ("BYTES", "\ud800"),
    ],
)
def test_what_does_not_fit(datatype: Datatype, value: Value) -> None:
    with pytest.raises(ValueError):
        pack(datatype, [value])


@pytest.mark.parametrize(
    ("datatype", "raw"),
    [
        ("INT32", b"\x00" * 5),
        ("FP32", b"\x00"),
        ("BYTES", b"\x00\x00"),
        ("BYTES", struct.pack("<I", 4) + b"abc"),
        ("BYTES", struct.pack("<I", 1) + b"\xff"),
        ("FP16", b"\x00\x00"),
    ],
)
def test_what_is_no_tensor(datatype: str, raw: bytes) -> None:
    with pytest.raises(ValueError):
        unpack(datatype, raw)
