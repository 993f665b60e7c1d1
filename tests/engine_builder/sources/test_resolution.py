"""Termination message of a resolve Job: the part of config.json that planning reads, bounded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import (
    BadConfig,
    BuilderError,
    SourceChanged,
    UnsupportedRequest,
)
from llmjp_builder.contracts.spec import Resolution, Source, to_canonical_json
from llmjp_builder.convert.model_config import parse_model_config
from llmjp_builder.sources.pinning import pin_source
from llmjp_builder.sources.resolution import PLANNING_KEYS, extract_planning_config, make_resolution
from llmjp_cli.termination import MAX_BYTES, render_message
from tests.engine_builder.checkpoints import Tiny

from .conftest import REPOSITORY, checkpoint, write_files

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.hub import Hub

CONFIG = Tiny().config()
LINEAR = {"rope_type": "linear", "factor": 2.0}


def files(config: dict[str, Any] | None = None) -> dict[str, bytes]:
    """A repository whose config.json describes a model."""
    return {**checkpoint(), "config.json": json.dumps(config or CONFIG).encode()}


class Watched(dict[str, Any]):
    """Notes which keys are asked for."""

    def __init__(self, *values: dict[str, Any]) -> None:
        super().__init__(*values)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)


def test_what_is_left_is_what_is_read() -> None:
    read: set[str] = set()
    without = {name: value for name, value in CONFIG.items() if name != "torch_dtype"}
    for change in (
        {},
        {"head_dim": None, "hidden_size": 16},
        {"rope_parameters": LINEAR},
        {"dtype": "float16"},
    ):
        document = Watched({**CONFIG, **change})
        parse_model_config(document, "config.json")
        parse_model_config(watched := Watched(without), "config.json")
        read |= document.read | watched.read
    assert sorted(read) == list(PLANNING_KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"rope_scaling": LINEAR},
        {"rope_parameters": {"rope_theta": 5e5, **LINEAR}},
        {"dtype": None, "torch_dtype": "bfloat16"},
        {"dtype": "float16", "torch_dtype": "bfloat16"},
        {"num_key_value_heads": None, "head_dim": None, "hidden_size": 16},
        {"architectures": None},
        {"architectures": []},
        {"architectures": ["LLaMAForCausalLM"]},
        {"tie_word_embeddings": True, "auto_map": {"x": "y" * 100_000}},
    ],
)
def test_it_means_the_same_model(change: dict[str, Any]) -> None:
    document = {**CONFIG, **change}
    part = extract_planning_config(document, "c")
    assert parse_model_config(part, "c") == parse_model_config(document, "c")
    assert set(part) <= set(PLANNING_KEYS)


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"rope_scaling": {**LINEAR, "x": "y" * 4000}}, BadConfig, "longer than any model's"),
        ({"rope_scaling": {**LINEAR, "x": "語" * 1000}}, BadConfig, "longer than any model's"),
        ({"rope_scaling": {**LINEAR, "x": 10**4000}}, BadConfig, "longer than any model's"),
        ({"rope_scaling": {**LINEAR, "x": nested(20)}}, BadConfig, "nested too deeply"),
        ({"rope_scaling": {**LINEAR, "x": nested(400)}}, BadConfig, "nested too deeply"),
        ({"rope_scaling": {**LINEAR, "\ud800": 1}}, BadConfig, "text that is none"),
        ({"hidden_size": 10**4000}, BadConfig, "hidden_size must be"),
        ({"architectures": ["x" * 100_000]}, UnsupportedRequest, "architectures"),
        ({"quantization_config": {"a": 1}}, UnsupportedRequest, "quantization_config"),
    ],
)
def test_what_no_model_has_is_refused(
    change: dict[str, Any], error: type[BuilderError], words: str
) -> None:
    with pytest.raises(error, match=words):
        extract_planning_config({**CONFIG, **change}, "config.json")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(PLANNING_KEYS), values, max_size=3))
def test_whatever_a_config_holds_the_message_fits(change: dict[str, Any]) -> None:
    try:
        part = extract_planning_config({**CONFIG, **change}, "config.json")
    except (BadConfig, UnsupportedRequest):
        return
    found = Resolution(digest="d" * 20, bytes=1 << 60, config=part, revision="c" * 40)
    text = render_message(found)
    assert len(text.encode()) < MAX_BYTES
    assert Resolution.from_json(json.loads(text)) == found


def test_a_repository(hub: Hub) -> None:
    commit = hub.publish(REPOSITORY, files())
    found = pin_source(Source(repository=REPOSITORY), endpoint=hub.endpoint)
    resolution = make_resolution(found)
    assert (resolution.revision, resolution.digest) == (commit, found.resolved.digest)
    assert resolution.bytes == sum(record.size for record in found.resolved.files.values())
    assert resolution.config == extract_planning_config(CONFIG, "c")
    assert len(hub.asked_for("/api/*")) == len(hub.asked_for("*/config.json")) == 1


def test_a_folder(tmp_path: Path) -> None:
    write_files(tmp_path, files())
    resolution = make_resolution(found := pin_source(Source(path=str(tmp_path))))
    assert (resolution.revision, resolution.digest) == (None, found.resolved.digest)
    assert resolution.config == extract_planning_config(CONFIG, "c")
    assert Resolution.from_json(json.loads(to_canonical_json(resolution.to_json()))) == resolution


def test_a_folder_that_changes_meanwhile(tmp_path: Path) -> None:
    write_files(tmp_path, files())
    found = pin_source(Source(path=str(tmp_path)))
    write_files(tmp_path, files({**CONFIG, "num_hidden_layers": 3}))
    with pytest.raises(SourceChanged):
        make_resolution(found)


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b'{"rope_theta": NaN}', b"[" * 100_000])
def test_what_is_no_json(text: bytes, hub: Hub) -> None:
    hub.publish(REPOSITORY, {**checkpoint(), "config.json": text})
    found = pin_source(Source(repository=REPOSITORY), endpoint=hub.endpoint)
    with pytest.raises(BadConfig, match=f"{REPOSITORY}/config.json"):
        make_resolution(found)
