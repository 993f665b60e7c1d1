"""Why a server failed, as Kubernetes keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from llmjp_builder.errors import BadArtefact
from llmjp_cli.last_words import LIMIT, reason_left, reason_of
from llmjp_runtime.errors import ArtefactInvalid, NotEnoughMemory, OptionInvalid, Terminated
from llmjp_runtime.text.errors import UnusableTokenizer


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ArtefactInvalid("x"), "artefact_invalid"),
        (NotEnoughMemory("x"), "not_enough_memory"),
        (OptionInvalid("x"), "option_invalid"),
        (Terminated("x"), "terminated"),
        (UnusableTokenizer("x"), "unusable_tokenizer"),
        (BadArtefact("x"), "bad_artefact"),
        (typer.BadParameter("x"), "usage"),
    ],
)
def test_codes(error: Exception, code: str) -> None:
    assert json.loads(reason_of(error)) == {"code": code, "message": "x"}


def test_a_bug_says_its_name() -> None:
    words = json.loads(reason_of(KeyError("x\ny")))
    assert words == {"code": "internal", "message": "KeyError: 'x\\ny'"}


@pytest.mark.parametrize("character", ["a", "長", "🍣", '"', "\\", "\x01", "\udcff"])
@pytest.mark.parametrize("length", [1, 1300, 4040, 4096, 100_000])
def test_it_is_json_and_fits(character: str, length: int) -> None:
    text = reason_of(ArtefactInvalid(character * length))
    assert len(text.encode()) <= LIMIT
    words = json.loads(text)
    assert words["code"] == "artefact_invalid"
    if length > LIMIT:
        assert len(text.encode()) > LIMIT / 2, "no more is cut off than must be"


def test_it_is_left_and_the_error_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with pytest.raises(ArtefactInvalid), reason_left(file):
        raise ArtefactInvalid("日本語")
    assert json.loads(file.read_text("utf-8"))["message"] == "日本語"


def test_where_nothing_can_be_left_the_error_still_goes_on(tmp_path: Path) -> None:
    for file in (None, tmp_path / "missing" / "log"):
        with pytest.raises(ArtefactInvalid), reason_left(file):
            raise ArtefactInvalid("x")


def test_nothing_is_left_where_nothing_failed(tmp_path: Path) -> None:
    with reason_left(tmp_path / "log"):
        pass
    assert not (tmp_path / "log").exists()
