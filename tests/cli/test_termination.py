"""What commands write_message for Kubernetes to keep: results, and why there is none."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import typer

from llmjp_builder.contracts.errors import BadArtefact, BuildTerminated, HubFailed
from llmjp_builder.contracts.spec import Failure, Step
from llmjp_cli.termination import (
    MAX_BYTES,
    render_error,
    render_message,
    reporting_errors,
    reporting_failures,
    write_message,
)
from llmjp_runtime.errors import ArtefactInvalid, NotEnoughMemory, OptionInvalid, ServerTerminated
from llmjp_runtime.text.errors import UnusableTokenizer


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ArtefactInvalid("x"), "artefact_invalid"),
        (NotEnoughMemory("x"), "not_enough_memory"),
        (OptionInvalid("x"), "option_invalid"),
        (ServerTerminated("x"), "terminated"),
        (UnusableTokenizer("x"), "unusable_tokenizer"),
        (BadArtefact("x"), "bad_artefact"),
        (typer.BadParameter("x"), "usage"),
    ],
)
def test_codes(error: Exception, code: str) -> None:
    assert json.loads(render_error(error)) == {"code": code, "message": "x"}


def test_a_bug_says_its_name() -> None:
    words = json.loads(render_error(KeyError("x\ny")))
    assert words == {"code": "internal", "message": "KeyError: 'x\\ny'"}


@pytest.mark.parametrize("character", ["a", "長", "🍣", '"', "\\", "\x01", "\udcff"])
@pytest.mark.parametrize("length", [1, 1300, 4040, 4096, 100_000])
def test_it_is_json_and_fits(character: str, length: int) -> None:
    text = render_error(ArtefactInvalid(character * length))
    assert len(text.encode()) <= MAX_BYTES
    words = json.loads(text)
    assert words["code"] == "artefact_invalid"
    if length > MAX_BYTES:
        assert len(text.encode()) > MAX_BYTES / 2, "no more is cut off than must be"


def test_it_is_left_and_the_error_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with pytest.raises(ArtefactInvalid), reporting_errors(file):
        raise ArtefactInvalid("日本語")
    assert json.loads(file.read_text("utf-8"))["message"] == "日本語"


def test_where_nothing_can_be_left_the_error_still_goes_on(tmp_path: Path) -> None:
    for file in (None, tmp_path / "missing" / "log"):
        with pytest.raises(ArtefactInvalid), reporting_errors(file):
            raise ArtefactInvalid("x")


def test_nothing_is_left_where_nothing_failed(tmp_path: Path) -> None:
    with reporting_errors(tmp_path / "log"):
        pass
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("character", ["a", "長", "🍣", '"', "\\", "\x01", "\udcff"])
@pytest.mark.parametrize("length", [1, 1300, 4000, 4096, 100_000])
def test_a_failure_is_json_and_fits(character: str, length: int, tmp_path: Path) -> None:
    failure = Failure.from_error(RuntimeError(character * length), Step.CONVERT)
    write_message(tmp_path / "log", failure)
    data = (tmp_path / "log").read_bytes()
    assert data.decode() == render_message(failure)
    assert len(data) <= MAX_BYTES
    said = Failure.from_json(json.loads(data))
    whole = failure.message.encode(errors="replace").decode()
    assert (said.code, said.step, said.retryable) == ("internal", Step.CONVERT, False)
    assert whole.startswith(said.message)
    assert said.message == whole or len(data) > MAX_BYTES / 2, "no more is cut off than must be"


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (HubFailed("x"), "hub_failed", True),
        (BadArtefact("x"), "bad_artefact", False),
        (typer.BadParameter("x"), "usage", False),
        (KeyError("x"), "internal", False),
    ],
)
def test_a_failed_step(error: Exception, code: str, retryable: bool, tmp_path: Path) -> None:
    with pytest.raises(type(error)), reporting_failures(tmp_path / "log", lambda: Step.COMPILE):
        raise error
    said = Failure.from_json(json.loads((tmp_path / "log").read_text()))
    assert (said.code, said.step, said.retryable) == (code, Step.COMPILE, retryable)


def terminated(file: Path) -> bool:
    said = Failure.from_json(json.loads(file.read_text()))
    return (said.code, said.step, said.retryable) == ("terminated", Step.CONVERT, True)


def ask_to_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_asked_to_end_it_says_so_at_once_and_once(tmp_path: Path) -> None:
    before, file = signal.getsignal(signal.SIGTERM), tmp_path / "log"

    def work() -> None:
        try:
            ask_to_end()
            pytest.fail("it goes on")
        finally:
            assert terminated(file), "while tidying up may still take its time"
            ask_to_end()

    with pytest.raises(BuildTerminated) as caught, reporting_failures(file, lambda: Step.CONVERT):
        work()
    assert caught.value.exit_code == 143
    assert terminated(file)
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_fails_because_of_the_end_is_no_reason(tmp_path: Path) -> None:
    def work() -> None:
        try:
            ask_to_end()
        except KeyboardInterrupt as exc:
            raise BadArtefact("half of it is missing") from exc

    with pytest.raises(BuildTerminated), reporting_failures(tmp_path / "log", lambda: Step.CONVERT):
        work()
    assert terminated(tmp_path / "log")


def test_no_part_takes_the_end_for_an_error() -> None:
    with (
        pytest.raises(BuildTerminated),
        reporting_failures(None, lambda: Step.CONVERT),
        suppress(Exception),
    ):
        ask_to_end()


def test_an_interrupt_is_no_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), reporting_failures(tmp_path / "log", lambda: Step.FETCH):
        raise KeyboardInterrupt
    assert not (tmp_path / "log").exists()
