"""safetensors headers: what is believed, what is refused, and that the library agrees."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from llmjp_builder.contracts.errors import BadHeader, MissingFile
from llmjp_builder.convert.header import (
    ITEM_BYTES,
    NewTensor,
    parse_header,
    read_header,
    render_header,
)
from tests.engine_builder.checkpoints import Array, with_header


def entry(dtype: str, shape: list[Any], begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


GOOD = {"a": entry("BF16", [2, 3], 0, 12), "b": entry("F32", [1], 12, 16)}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_file_of_the_library_is_read(tmp_path: Path) -> None:
    arrays: dict[str, Array] = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "e": np.zeros((0, 4), np.int8),
    }
    save_file(arrays, tmp_path / "f", metadata={"k": "v"})
    found = read_header(tmp_path / "f")
    assert {n: (t.dtype, t.shape) for n, t in found.items()} == {
        "x": ("F32", (2, 3)),
        "e": ("I8", (0, 4)),
    }
    data = (tmp_path / "f").read_bytes()
    x = found["x"]
    assert data[x.offset : x.offset + x.size] == arrays["x"].tobytes()


BAD: list[tuple[object, int, str]] = [
    ({**GOOD, "b": entry("F32", [1], 8, 12)}, 16, "overlaps"),
    ({**GOOD, "b": entry("F32", [1], 16, 20)}, 20, "leaves a hole"),
    ({"a": entry("F32", [1], 4, 8)}, 8, "leaves a hole"),
    (GOOD, 15, "truncated"),
    (GOOD, 17, "something was appended"),
    ({"a": entry("F32", [1], 0, 1 << 60)}, 4, "span"),
    ({"a": entry("F32", [1 << 60], 0, 1 << 62)}, 4, "truncated"),
    ({"a": entry("F32", [2], 0, 4)}, 4, "span 4 bytes, but F32 [2] takes 8"),
    ({"a": entry("F32", [1], 4, 0)}, 4, "span -4"),
    ({"a": entry("F32", [-1], 0, 4)}, 4, "integers"),
    ({"a": entry("F32", [True], 0, 4)}, 4, "integers"),
    ({"a": entry("F32", [1.0], 0, 4)}, 4, "integers"),
    ({"a": entry("F32", [1], 0, "4")}, 4, "integers"),
    ({"a": entry("F32", [1] * 9, 0, 4)}, 4, "dimensions"),
    ({"a": entry("Q4", [1], 0, 4)}, 4, "unknown dtype 'Q4'"),
    ({"a": {"dtype": "F32", "shape": [1]}}, 4, "expected dtype, shape and data_offsets"),
    ({"a": 1}, 4, "expected dtype, shape and data_offsets"),
    ({"__metadata__": {"a": 1}}, 0, "__metadata__"),
    ([], 0, "not a JSON object"),
    (b'{"a":1,"a":1}', 0, "'a' is there twice"),
    (b"{", 0, "not valid JSON"),
    (b"\xff\xfe", 0, "not valid JSON"),
    (b"[" * 200_000, 0, "not valid JSON"),
    (b'{"a":' + b"9" * 5000 + b"}", 0, "not valid JSON"),
]


@pytest.mark.parametrize(("header", "body", "message"), BAD)
def test_a_lying_header_is_refused(tmp_path: Path, header: object, body: int, message: str) -> None:
    path = write(tmp_path / "f", with_header(header, bytes(body)))
    with pytest.raises(BadHeader) as caught:
        read_header(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [17, 1 << 25, 1 << 40, (1 << 64) - 1])
def test_a_header_longer_than_its_file_is_refused(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "f", struct.pack("<Q", length) + b"{}" + bytes(14))
    with pytest.raises(BadHeader, match="header length"):
        read_header(path)


def test_a_huge_length_in_a_huge_file_allocates_nothing(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.write(struct.pack("<Q", 1 << 39))
        file.truncate(1 << 40)  # sparse
    with pytest.raises(BadHeader, match="header length"):
        read_header(tmp_path / "f")


@pytest.mark.parametrize("size", [0, 7])
def test_a_file_too_short_for_a_length_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(BadHeader, match="too few"):
        read_header(write(tmp_path / "f", bytes(size)))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFile):
        read_header(tmp_path / "absent")
    with pytest.raises(MissingFile, match="not a regular file"):
        read_header(tmp_path)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    try:
        tensors = parse_header(data, Path("f"), 8 + len(data) + 16)
    except BadHeader:
        return
    assert sum(t.size for t in tensors.values()) == 16


names = st.text(min_size=1, max_size=12).filter(lambda n: n != "__metadata__")
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
dtypes = st.sampled_from(["F32", "BF16", "F8_E4M3"])


@given(st.dictionaries(names, st.tuples(dtypes, shapes), max_size=6))
def test_what_is_written_is_read_by_us_and_the_library(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, tuple[str, tuple[int, ...]]]
) -> None:
    tensors = [NewTensor(name, *what) for name, what in wanted.items()]
    header, offsets = render_header(tensors)
    assert len(header) % 8 == 0
    path = tmp_path_factory.mktemp("h") / "f"
    path.write_bytes(header + bytes(sum(t.size for t in tensors)))
    found = read_header(path)
    assert {n: (t.dtype, t.shape) for n, t in found.items()} == wanted
    assert {n: t.offset for n, t in found.items()} == offsets
    assert all(t.offset % ITEM_BYTES[t.dtype] == 0 for t in found.values())
    with safe_open(path, "numpy") as library:
        assert set(library.keys()) == set(wanted)


def test_the_order_is_the_librarys(tmp_path: Path) -> None:
    arrays: dict[str, Array] = {
        "b": np.zeros(3, np.float16),
        "a": np.ones(5, np.float16),
        "z": np.ones(1, np.float32),
    }
    save_file(arrays, tmp_path / "theirs")
    tensors = [
        NewTensor(name, "F32" if array.itemsize == 4 else "F16", array.shape)
        for name, array in arrays.items()
    ]
    header, _ = render_header(tensors)
    assert (tmp_path / "theirs").read_bytes().startswith(header)


def test_the_library_would_refuse_a_hole_too(tmp_path: Path) -> None:
    # Keeps our strictness honest: it is the format's rule, not ours.
    path = write(tmp_path / "f", with_header({"a": entry("F32", [1], 4, 8)}, bytes(8)))
    with pytest.raises(SafetensorError), safe_open(path, "numpy"):
        pass


def test_json_of_the_header_is_plain() -> None:
    header, _ = render_header([NewTensor("あ", "BF16", (1,))])
    assert json.loads(header[8:]) == {"あ": entry("BF16", [1], 0, 2)}
