"""Failures at the edge of the process."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from llmjp_cli.exit_codes import describe_error, run_command_line


class Foreseen(Exception):
    exit_code = 3


def raising(error: BaseException) -> int:
    def command() -> None:
        raise error

    return run_command_line(command)


def test_foreseen_errors_are_one_line_with_their_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(Foreseen("wrong\n  shape")) == 3
    assert capsys.readouterr().err == "llmjp: wrong shape\n"


def test_a_bug_is_named_as_one_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(KeyError("x")) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "internal error: KeyError" in err


def test_the_traceback_is_there_for_who_asks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMJP_TRACEBACK", "1")
    raising(KeyError("x"))
    assert "Traceback" in capsys.readouterr().err


def test_interruption_and_exit_codes() -> None:
    assert raising(KeyboardInterrupt()) == 130
    assert raising(SystemExit(7)) == 7
    assert raising(SystemExit(None)) == 0
    assert raising(typer.Exit(4)) != 0
    assert run_command_line(lambda: None) == 0


def test_describe_is_pure() -> None:
    assert describe_error(Foreseen("a")) == ("a", 3)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["build", "--help"]])
def test_help_is_quick_to_import(arguments: list[str]) -> None:
    script = (
        "import sys; sys.argv = ['llmjp', *sys.argv[1:]]\n"
        "from llmjp_cli.__main__ import main\n"
        "try: main()\n"
        "finally:\n"
        "    heavy = {'torch', 'numpy', 'grpc', 'transformers', 'safetensors'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "llmjp" in done.stdout
