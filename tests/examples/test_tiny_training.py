"""Training the tiny model: what is learned, and that a stopped training goes on unchanged."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import checkpoint
from tiny_model.decoding import greedy
from tiny_model.encoding import Encoded
from tiny_model.resuming import StateFile, StateUnusable
from tiny_model.training import Recipe, train

pytestmark = pytest.mark.slow

DATA = [Encoded((1, 300 + i, 18), (400 + i, 500, 2)) for i in range(12)]
RECIPE = Recipe(steps=8, batch=4, warmup=2)
"""With dropout: the random numbers must go on as well."""


class Stopped(Exception):
    """Stands for a kill in the middle of a training."""


def trained(recipe: Recipe, kept: StateFile | None = None, data: list[Encoded] = DATA) -> Any:
    model = checkpoint.new_model(recipe.seed)
    train(model, data, recipe, lambda _step, _loss: None, kept=kept)
    return model.state_dict()


def stopped_after(recipe: Recipe, kept: StateFile, steps: int, monkeypatch: Any) -> None:
    save = StateFile.save

    def save_and_stop(file: StateFile, training: Any, step: int, belongs_to: str) -> None:
        save(file, training, step, belongs_to)
        if step == steps:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(StateFile, "save", save_and_stop)
        with pytest.raises(Stopped):
            trained(recipe, kept)


def test_learns_the_reply_and_only_the_reply() -> None:
    data = DATA[:4]
    recipe = Recipe(steps=40, batch=4, warmup=5, attention_dropout=0.0)
    model = checkpoint.new_model(recipe.seed)
    losses: list[float] = []
    train(model, data, recipe, lambda _, loss: losses.append(loss))
    assert len(losses) == 2
    assert losses[-1] < 0.1 < math.log(4096)
    assert greedy(model, [entry.prompt for entry in data], penalty=1.0, batch=2) == [
        list(entry.reply[:-1]) for entry in data
    ]


def test_a_stopped_training_ends_in_the_same_weights(tmp_path: Path, monkeypatch: Any) -> None:
    kept = StateFile(tmp_path / "new" / "state", every=3)
    expected = trained(RECIPE)
    stopped_after(RECIPE, kept, 6, monkeypatch)
    torch.manual_seed(99)
    resumed = trained(RECIPE, kept)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(resumed[name], tensor) for name, tensor in expected.items())


def test_goes_on_and_does_not_begin_again(tmp_path: Path, monkeypatch: Any) -> None:
    kept = StateFile(tmp_path / "state", every=3)
    stopped_after(RECIPE, kept, 6, monkeypatch)
    saved: list[int] = []
    monkeypatch.setattr(
        StateFile, "save", lambda _file, _training, step, _owner: saved.append(step)
    )
    trained(RECIPE, StateFile(kept.path, every=1))
    assert saved == [7, 8]


@pytest.mark.parametrize(
    ("recipe", "data"),
    [(Recipe(steps=9, batch=4, warmup=2), DATA), (RECIPE, DATA[:-1])],
    ids=["other settings", "other questions"],
)
def test_a_state_of_another_training_is_refused(
    tmp_path: Path, recipe: Recipe, data: list[Encoded]
) -> None:
    kept = StateFile(tmp_path / "state", every=8)
    trained(RECIPE, kept)
    with pytest.raises(StateUnusable, match="other settings or questions"):
        trained(recipe, kept, data)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 not really", b"text"])
def test_a_damaged_state_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state"
    path.write_bytes(content)
    with pytest.raises(StateUnusable, match="delete it"):
        trained(RECIPE, StateFile(path))
    assert path.read_bytes() == content


def test_a_kill_while_saving_keeps_the_last_state(tmp_path: Path, monkeypatch: Any) -> None:
    kept = StateFile(tmp_path / "state", every=3)
    stopped_after(RECIPE, kept, 3, monkeypatch)
    before = kept.path.read_bytes()

    def torn(_state: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise Stopped

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(Stopped):
        trained(RECIPE, kept)
    assert kept.path.read_bytes() == before
