"""`llmjp serve` as a process of its own, as a pod runs it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from llmjp_runtime.server.preflight import find_free_ports
from llmjp_runtime.server.processes import kill_processes, list_descendants

LLMJP = (sys.executable, "-m", "llmjp_cli")
WAIT_S = 180.0


class Served:
    """A running command; its output is read by a thread."""

    def __init__(
        self, command: Sequence[str], ports: Sequence[int], env: Mapping[str, str] | None
    ) -> None:
        self.http, self.grpc, self.metrics, self.health = ports
        self.lines: list[str] = []
        self._ready = threading.Event()
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=None if env is None else dict(env)
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        with self.process.stderr as stderr:
            for line in stderr:
                self.lines.append(line.rstrip("\n"))
                if line.startswith("ready  gRPC "):
                    self._ready.set()
        self._ready.set()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.grpc}"

    @property
    def stderr(self) -> str:
        return "\n".join(self.lines)

    def wait_ready(self) -> None:
        assert self._ready.wait(WAIT_S), self.stderr
        assert any(line.startswith("ready ") for line in self.lines), self.stderr

    def wait(self) -> int:
        """The exit code, once everything it said was read."""
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        return code

    def drain(self, *arguments: str) -> subprocess.Popen[str]:
        """`llmjp drain` beside it."""
        return subprocess.Popen(
            [*LLMJP, "drain", "--health", f"127.0.0.1:{self.health}", *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def served(
    artefact: Path,
    *options: object,
    before: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """`llmjp serve` over the artefact on free ports; killed with all it started at the end.

    Args:
        artefact: what to serve.
        options: more of the command's.
        before: a command that runs the command.
        env: environment; None for ours.
    """
    ports = find_free_ports(4)
    names = ("--http-port", "--grpc-port", "--metrics-port", "--health-port")
    given = [str(each) for pair in zip(names, ports, strict=True) for each in pair]
    command = [*before, *LLMJP, "serve", str(artefact), *given, "--num-threads", "1"]
    running = Served([*command, *map(str, options)], ports, env)
    try:
        yield running
    finally:
        pids = [running.process.pid, *list_descendants(running.process.pid)]
        if running.process.poll() is None:
            kill_processes(pids)
        running.process.wait(WAIT_S)
