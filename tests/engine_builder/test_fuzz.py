"""Damaged and hostile checkpoints: errors of ours, and no memory for what a file only claims."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import BuilderError
from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.amax import parse_amax
from llmjp_builder.convert.conversion import prepare_ranks
from llmjp_builder.convert.header import read_header
from llmjp_builder.sources.selection import INDEX, select_files
from llmjp_builder.tokenizer import find_tokenizer_files
from tests.engine_builder.checkpoints import Tiny, add_tokenizer, with_header, write_checkpoint
from tests.support.soak import count

SEVERAL = settings(
    max_examples=count(60, 1500),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MEMORY = 8 << 20
"""Bytes beyond the file itself that reading a file of a few kilobytes may take."""

numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, 1, -1, 2**31, 2**63])
leaves = st.none() | st.booleans() | numbers | st.text(max_size=8)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
dtypes = st.sampled_from(["BF16", "F16", "F32", "F8_E4M3", "I64", "X"]) | values
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": dtypes,
        "shape": st.lists(numbers, max_size=4) | values,
        "data_offsets": st.lists(numbers, max_size=3) | values,
        "more": values,
    },
)
WEIGHTS = list(Tiny().shapes())
CONFIG = Tiny().config()


@contextmanager
def bounded(read: int) -> Iterator[None]:
    """Check that peak allocation in the block stays within `MEMORY` and a multiple of the input."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY + 50 * read


def refused_or_read(read: Callable[[], object], size: int) -> None:
    """Anything but an error of ours fails the test."""
    message = ""
    with bounded(size):
        try:
            read()
        except BuilderError as exc:
            message = str(exc)
    assert "\n" not in message
    assert len(message) < 2000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint; each example changes one file of it and puts it back."""
    return add_tokenizer(write_checkpoint(tmp_path_factory.mktemp("fuzz") / "hf", Tiny()))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fuzz") / "hf"
    return add_tokenizer(write_checkpoint(place, Tiny(), shards=2))


@contextmanager
def changed(path: Path, data: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


def mutated(data: bytes, places: list[tuple[int, int]], cut: int) -> bytes:
    result = bytearray(data)
    for at, value in places:
        result[at % len(result)] = value
    return bytes(result[: len(result) - cut % len(result)] if cut % 3 == 0 else result)


bytes_changed = st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 255)), max_size=4)


@SEVERAL
@given(data=st.binary(max_size=200))
@example(data=struct.pack("<Q", 2**63 - 1) + b"{}")
@example(data=struct.pack("<Q", 100 << 20) + b"{}")
@example(data=struct.pack("<Q", 2**64 - 1))
@example(data=with_header(b"[" * 200_000, b""))
@example(data=with_header(b'{"a":' * 50_000, b""))
@example(data=with_header(b'{"a":1' + b"0" * 5000 + b"}", b""))
def test_any_bytes_as_a_weight_file(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(data)
    refused_or_read(lambda: read_header(tmp_path / "f"), len(data))


@SEVERAL
@given(
    header=st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), entries | values),
    body=st.binary(max_size=64),
)
def test_lying_headers(header: dict[str, Any], body: bytes, tmp_path: Path) -> None:
    data = with_header(json.dumps(header).encode(), body)
    (tmp_path / "f").write_bytes(data)
    refused_or_read(lambda: read_header(tmp_path / "f"), len(data))


@SEVERAL
@given(name=st.sampled_from(WEIGHTS), entry=entries | values)
@example(
    name=WEIGHTS[1], entry={"dtype": "BF16", "shape": [2**40, 2**20], "data_offsets": [0, 2**61]}
)
@example(name=WEIGHTS[1], entry={"dtype": "BF16", "shape": [0, 2**62], "data_offsets": [0, 0]})
def test_a_whole_checkpoint_with_one_lying_tensor(name: str, entry: Any, folder: Path) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header[name] = {**header[name], **entry} if isinstance(entry, dict) else entry
    with changed(path, with_header(header, data[8 + length :])):
        refused_or_read(lambda: prepare_ranks(folder, LayoutOptions(tensor_parallel=2)), len(data))


@SEVERAL
@given(places=bytes_changed, cut=st.integers(0, 3000))
def test_flipped_bytes_of_a_whole_checkpoint(
    places: list[tuple[int, int]], cut: int, folder: Path
) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    with changed(path, mutated(data, places, cut)):
        refused_or_read(lambda: prepare_ranks(folder, LayoutOptions(tensor_parallel=2)), len(data))


@SEVERAL
@given(change=st.dictionaries(st.sampled_from([*CONFIG, "mlp_bias", "rope_scaling"]), values))
@example(change={"num_hidden_layers": 2**62})
@example(change={"vocab_size": 2**24, "hidden_size": 2**20})
@example(change={"rope_scaling": {"type": "linear", "factor": 1e308}})
@example(change={"rope_scaling": {"type": []}})
@example(change={"attention_bias": []})
@example(change={"rms_norm_eps": 10**400})
@example(change={"num_hidden_layers": 4096, "hidden_size": 2**20, "intermediate_size": 2**20})
def test_any_values_in_config_json(change: dict[str, Any], folder: Path) -> None:
    data = json.dumps({**CONFIG, **change}).encode()
    with changed(folder / "config.json", data):
        refused_or_read(
            lambda: prepare_ranks(folder, LayoutOptions(tensor_parallel=2)), len(data) + (1 << 20)
        )


@SEVERAL
@given(data=st.binary(max_size=100) | values.map(lambda value: json.dumps(value).encode()))
@example(data=b"[" * 100_000)
@example(data=b'{"a": 1e999}')
@example(data=b'{"a": ' + b"9" * 5000 + b"}")
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_anything_in_the_place_of_a_json_file(name: str, data: bytes, folder: Path) -> None:
    def read() -> None:
        prepare_ranks(folder, LayoutOptions())
        find_tokenizer_files(folder, 11)

    with changed(folder / name, data):
        refused_or_read(read, len(data))


@SEVERAL
@given(
    placed=st.dictionaries(
        st.sampled_from([*WEIGHTS, "ghost"]),
        values
        | st.sampled_from(
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "../model.safetensors",
                "/etc/passwd",
                "config.json",
                "..",
                "",
                "\0",
                "a" * 5000,
            ]
        ),
    )
    | values
)
@example(placed={WEIGHTS[0]: "a" * 5000})
@example(placed={WEIGHTS[0]: "\ud800.safetensors"})
@example(placed={WEIGHTS[0]: "a\0.safetensors"})
def test_any_index(placed: Any, sharded: Path) -> None:
    document = json.dumps({"weight_map": placed}).encode()
    with changed(sharded / INDEX, document):
        present = {path.name for path in sharded.iterdir()}
        refused_or_read(lambda: prepare_ranks(sharded, LayoutOptions()), len(document))
        refused_or_read(lambda: select_files(present, lambda: document, "here"), len(document))


@SEVERAL
@given(
    document=st.dictionaries(
        st.sampled_from(["activation_amax", "kv_amax"]),
        st.dictionaries(st.sampled_from(["a", "b", "n"]), values) | values,
    )
)
@example(document={"activation_amax": {"a": 10**400, "b": 1}})
@example(document={"activation_amax": {"a": 1e-45, "b": 3.4e38}, "kv_amax": {"n": {"k": []}}})
def test_any_amax(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    refused_or_read(lambda: parse_amax(json.loads(text), ("a", "b"), ("n",), "here"), len(text))
