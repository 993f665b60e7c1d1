"""Layer by layer: gone on with after any end, one layer at a time, every text by itself."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import BadTensors, NotEnoughDisk, SourceChanged
from llmjp_builder.contracts.spec import Progress
from llmjp_builder.convert.amax import Amax
from llmjp_builder.convert.source_files import SourceFiles
from llmjp_builder.progress import Reporter
from llmjp_builder.quantize.calibration.layer_weights import LayerWeights
from tests.engine_builder.checkpoints import write_checkpoint
from tests.engine_builder.quantize.calibration.models import MODEL, calibrated, drawn_texts, written
from tests.engine_builder.quantize.modelopt import Case

TEXTS = drawn_texts(MODEL.vocab, (9, 1, 30, 17))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("hf"), shards=3)


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Amax:
    return calibrated(source, tmp_path_factory.mktemp("work"), TEXTS)


class Died(Exception):
    pass


@contextmanager
def loading(monkeypatch: pytest.MonkeyPatch, *, dies_at: int | None = None) -> Iterator[list[int]]:
    """The indexes of the layers that are loaded; the process may die of one."""
    loaded: list[int] = []
    load = LayerWeights.read_layer

    def layer(self: LayerWeights, index: int) -> dict[str, torch.Tensor]:
        if index == dies_at:
            raise Died
        loaded.append(index)
        return load(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(LayerWeights, "read_layer", layer)
        yield loaded


@pytest.fixture
def work(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Left by a run that died of its third layer."""
    with loading(monkeypatch, dies_at=2), pytest.raises(Died):
        calibrated(source, tmp_path / "work", TEXTS)
    return tmp_path / "work"


def test_a_run_goes_on_where_another_died(
    source: Path, work: Path, undisturbed: Amax, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Progress] = []
    with loading(monkeypatch) as loaded:
        assert calibrated(source, work, TEXTS, reporter=Reporter(shown.append)) == undisturbed
    assert loaded == [2, 3]
    assert [shown[0].percent, shown[-1].percent] == [50.0, 100.0]


def test_a_finished_run_computes_nothing_again(
    source: Path, work: Path, undisturbed: Amax, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated(source, work, TEXTS)
    with loading(monkeypatch) as loaded:
        assert calibrated(source, work, TEXTS) == undisturbed
    assert loaded == []


@pytest.mark.parametrize(
    "change",
    [
        {"layers_done": 1},
        {"layers_done": 4},
        {"layers_done": 40},
        {"layers_done": -1},
        {"layers_done": "2"},
        {"checksum": 1},
        {"checksum": None},
        {"amax": {}},
        {"amax": []},
        {"amax": {"model.layers.0.self_attn.q_proj": "much"}},
    ],
)
def test_a_state_that_is_not_whole_counts_for_nothing(
    source: Path, work: Path, undisturbed: Amax, change: dict[str, Any]
) -> None:
    path = work / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert calibrated(source, work, TEXTS) == undisturbed


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 10_000])
def test_a_state_that_is_none_counts_for_nothing(
    source: Path, work: Path, undisturbed: Amax, text: str
) -> None:
    (work / "state.json").write_text(text)
    assert calibrated(source, work, TEXTS) == undisturbed


@pytest.mark.parametrize("damage", ["changed", "shorter", "missing"])
def test_damaged_rows_count_for_nothing(
    source: Path, work: Path, undisturbed: Amax, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    rows = work / "rows-0"
    data = bytearray(rows.read_bytes())
    data[100] ^= 1
    match damage:
        case "changed":
            rows.write_bytes(data)
        case "shorter":
            rows.write_bytes(data[:-2])
        case _:
            rows.unlink()
    with loading(monkeypatch) as loaded:
        assert calibrated(source, work, TEXTS) == undisturbed
    assert loaded == [0, 1, 2, 3]


def test_one_layer_is_in_memory_at_a_time(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, alive, most = LayerWeights.read_layer, weakref.WeakSet[torch.Tensor](), []

    def layer(self: LayerWeights, index: int) -> dict[str, torch.Tensor]:
        assert not alive, f"{len(alive)} weights of another layer at layer {index}"
        weights = load(self, index)
        alive.update(weights.values())
        most.append(len(alive))
        return weights

    monkeypatch.setattr(LayerWeights, "read_layer", layer)
    calibrated(source, tmp_path / "work", TEXTS)
    assert most == [9] * MODEL.layers


def test_of_the_embedding_table_only_rows_in_use_are_read(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, sizes = SourceFiles.read, list[int]()

    def counted(self: SourceFiles, tensor: Any, begin: int, size: int) -> Any:
        if tensor.name == "model.embed_tokens.weight":
            sizes.append(size)
        return read(self, tensor, begin, size)

    monkeypatch.setattr(SourceFiles, "read", counted)
    calibrated(source, tmp_path / "work", ((3, 3, 7), (5,)))
    assert sizes == [2 * MODEL.hidden] * 3


def largest(one: Amax, other: Amax) -> Amax:
    return Amax(
        {name: max(a, other.activations[name]) for name, a in one.activations.items()},
        {
            name: {letter: max(a, other.kv[name][letter]) for letter, a in entry.items()}
            for name, entry in one.kv.items()
        },
    )


texts = st.lists(st.lists(st.integers(0, MODEL.vocab - 1), min_size=1, max_size=40), min_size=1)


@settings(max_examples=20, deadline=None)
@given(first=texts, second=texts)
def test_a_text_counts_the_same_in_any_company(
    source: Path,
    tmp_path_factory: pytest.TempPathFactory,
    first: list[list[int]],
    second: list[list[int]],
) -> None:
    def amax(chosen: list[list[int]]) -> Amax:
        work = tmp_path_factory.mktemp("work", numbered=True)
        return calibrated(source, work, tuple(map(tuple, chosen)))

    together = amax(first + second)
    assert together == largest(amax(first), amax(second))
    assert together == amax([*reversed(second), *first])


@pytest.mark.parametrize("bits", [0x7F80, 0xFFC0])
def test_what_is_no_number_is_refused(tmp_path: Path, bits: int) -> None:
    weights = Case(model=MODEL).weights()
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = bits
    source = write_checkpoint(tmp_path / "hf", MODEL, weights)
    with pytest.raises(BadTensors, match=r"layers\.1\.mlp\.down_proj: .* in bfloat16"):
        calibrated(source, tmp_path / "work", TEXTS)


def test_nothing_but_zeros_is_refused(tmp_path: Path) -> None:
    weights = Case(model=MODEL).weights()
    weights["model.layers.2.self_attn.v_proj.weight"][:] = np.uint16(0)
    source = write_checkpoint(tmp_path / "hf", MODEL, weights)
    with pytest.raises(BadTensors, match=r"layers\.2\.self_attn\.(v|o_proj): .* is 0\.0 in"):
        calibrated(source, tmp_path / "work", TEXTS)


def test_float16_may_overflow_where_bfloat16_does_not(tmp_path: Path) -> None:
    model = Case(model=MODEL, louder=30_000.0)
    source = write_checkpoint(tmp_path / "hf", MODEL, model.weights())
    assert calibrated(source, tmp_path / "wide", TEXTS).kv
    with pytest.raises(BadTensors, match="in float16"):
        calibrated(source, tmp_path / "narrow", TEXTS, "float16")


def test_a_source_that_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path / "hf")
    load = LayerWeights.read_layer

    def layer(self: LayerWeights, index: int) -> dict[str, torch.Tensor]:
        if index == 1:
            with (source / "model.safetensors").open("ab") as file:
                file.write(b"x")
        return load(self, index)

    monkeypatch.setattr(LayerWeights, "read_layer", layer)
    with pytest.raises(SourceChanged):
        calibrated(source, tmp_path / "work", TEXTS)
    assert json.loads((tmp_path / "work" / "state.json").read_text())["layers_done"] == 1


def test_no_room(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 2 * len(sum(TEXTS, ())) * 2 * MODEL.hidden - 1

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(NotEnoughDisk):
        calibrated(source, tmp_path / "work", TEXTS)
