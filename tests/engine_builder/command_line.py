"""The builder's commands as a person runs them, in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from llmjp_cli.commands.build import build, convert
from llmjp_cli.commands.quantize import quantize
from llmjp_cli.commands.resolve import resolve
from llmjp_cli.commands.store import store_check, store_gc, store_ls, store_remove
from llmjp_cli.exit_codes import run


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
        for command in (build, convert, quantize, resolve):
            app.command()(command)
        for stored in (store_ls, store_gc, store_check, store_remove):
            app.command(stored.__name__.replace("_", "-"))(stored)
        self.captured.readouterr()
        exit_code = run(lambda: app([str(argument) for argument in arguments]))
        said = self.captured.readouterr()
        return Ended(exit_code, said.out, said.err)
