"""Which process of a ready server is gone, without a server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from llmjp_runtime.engine.proxy import HOST_MODULE
from llmjp_runtime.server.model_processes import ModelProcesses


class Processes:
    """Processes below this one, by how they were started."""

    def __init__(self, repository: Path) -> None:
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()
        for argument in (f"{repository}/llmjp/1/model.py", f"{repository}/ensemble/1/model.py"):
            self.start(argument)
        self.start(HOST_MODULE)

    def start(self, argument: str) -> None:
        command = [sys.executable, "-c", "print(flush=True); input()", argument]
        process = self._stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        # Until it runs, /proc may not have its arguments yet.
        assert process.stdout
        assert process.stdout.readline()
        self.started[argument] = process

    def kill(self, end: str) -> str:
        (argument,) = [each for each in self.started if each.endswith(end)]
        self.started[argument].kill()
        self.started[argument].wait()
        return argument

    def close(self) -> None:
        for process in self.started.values():
            process.kill()
        self._stack.close()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path)
    yield processes
    processes.close()


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("llmjp/1/model.py", "the front model's process"),
        ("ensemble/1/model.py", "the process of model ensemble"),
        (HOST_MODULE, "the engine's process"),
    ],
)
def test_the_first_process_that_is_gone_is_named_even_where_another_took_its_place(
    processes: Processes, tmp_path: Path, end: str, said: str
) -> None:
    models = ModelProcesses(os.getpid(), tmp_path, "torch")
    assert models.find_dead() is None
    argument = processes.kill(end)
    assert models.find_dead() == said
    processes.start(argument)
    assert models.find_dead() == said
    assert ModelProcesses(os.getpid(), tmp_path, "torch").find_dead() is None


def test_what_is_not_there_at_first_is_dead(processes: Processes, tmp_path: Path) -> None:
    processes.kill("ensemble/1/model.py")
    models = ModelProcesses(os.getpid(), tmp_path, "torch")
    assert models.find_dead() == "the process of model ensemble"


def test_a_backend_without_a_host_needs_none(processes: Processes, tmp_path: Path) -> None:
    processes.kill(HOST_MODULE)
    assert ModelProcesses(os.getpid(), tmp_path, "tensorrt").find_dead() is None
