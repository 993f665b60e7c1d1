"""The builder's commands as a person runs them, in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from llmjp_cli.commands.build import build_artefact
from llmjp_cli.commands.convert import convert_checkpoint
from llmjp_cli.commands.quantize import quantize_checkpoint
from llmjp_cli.commands.resolve import resolve_source
from llmjp_cli.commands.store import (
    check_store,
    collect_garbage,
    list_store,
    remove_from_store,
)
from llmjp_cli.exit_codes import run_command_line

COMMANDS: dict[str, Callable[..., None]] = {
    "build": build_artefact,
    "convert": convert_checkpoint,
    "quantize": quantize_checkpoint,
    "resolve": resolve_source,
    "store-ls": list_store,
    "store-gc": collect_garbage,
    "store-check": check_store,
    "store-remove": remove_from_store,
}


@dataclass(frozen=True)
class Ended:
    """What a command said before it ended."""

    exit_code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        return self.out.splitlines()[-1]

    @property
    def complaint(self) -> str:
        """The one line of a failure; fails the test where there is another."""
        lines = [line for line in self.err.splitlines() if not line.startswith("{")]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("llmjp: ")
        return lines[0].removeprefix("llmjp: ")


@dataclass(frozen=True)
class CommandLine:
    """Runs `llmjp ...`."""

    captured: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str | Path) -> Ended:
        app = typer.Typer(pretty_exceptions_enable=False)
        for name, command in COMMANDS.items():
            app.command(name)(command)
        self.captured.readouterr()
        exit_code = run_command_line(lambda: app([str(argument) for argument in arguments]))
        said = self.captured.readouterr()
        return Ended(exit_code, said.out, said.err)
