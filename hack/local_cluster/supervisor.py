"""Starts the components in order, waits until each is ready, and stays as long as all live.

Run by the keeper as `python -m hack.local_cluster.supervisor PLAN LOCK_FD HOST_NETWORK_FD`.
On level `node` it is process 1 of its own process namespace: whatever else dies, its end is the
end of every process of the node, by the kernel's hand. It therefore never tidies up; the keeper
does.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hack.local_cluster.plan import HOST_NETWORK, ApiAccess, Component, Plan, Ready
from hack.local_cluster.processes import die_with_parent
from hack.local_cluster.status import Failure, Status, log_reason, tail, write_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hack.local_cluster.status import Phase

POLL_S: Final = 0.05
"""Between two looks while starting."""
PROBE_TIMEOUT_S: Final = 2.0
"""For one look."""


class Supervisor:
    """The components of one plan and how far they are."""

    def __init__(self, plan: Plan, lock_fd: int) -> None:
        self._plan = plan
        self._logs = Path(plan.logs)
        self._folder = Path(plan.folder)
        self._lock_fd = lock_fd
        self._api = _ApiProbe(plan.api)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ready: list[str] = []

    def run(self) -> Failure:
        """Start everything, then wait for the first component to end."""
        failure = self._start_all()
        if failure is not None:
            return failure
        self._report("ready")
        while True:
            pid, status = os.waitpid(-1, 0)
            if (failure := self._death(pid, status)) is not None:
                return failure

    def _start_all(self) -> Failure | None:
        deadline = time.monotonic() + self._plan.timeout_s
        self._report("starting")
        while len(self._ready) < len(self._plan.components):
            self._start_possible()
            if (failure := self._reap()) is not None:
                return failure
            if (failure := self._look(deadline)) is not None:
                return failure
            time.sleep(POLL_S)
        return None

    def _start_possible(self) -> None:
        for component in self._plan.components:
            if component.name not in self._processes and set(component.after) <= set(self._ready):
                self._processes[component.name] = self._start(component)

    def _start(self, component: Component) -> subprocess.Popen[bytes]:
        with self._log(component.name).open("ab") as log:
            return subprocess.Popen(
                component.command,
                cwd=self._folder,
                env={"PATH": self._plan.path, "HOME": str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._lock_fd,),
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509  we have one thread
            )

    def _look(self, deadline: float) -> Failure | None:
        """Ask what is not ready; a failure when time is up."""
        for component in self._plan.components:
            if component.name in self._ready or component.name not in self._processes:
                continue
            if component.ready is None or self._is_ready(component.ready):
                self._ready.append(component.name)
                self._report("starting")
            elif time.monotonic() > deadline:
                log = self._log(component.name)
                return Failure(
                    kind="late",
                    subject=(component.name,),
                    reason=log_reason(tail(log)),
                    log=str(log),
                    timeout_s=self._plan.timeout_s,
                )
        return None

    def _is_ready(self, ready: Ready) -> bool:
        match ready.kind:
            case "socket":
                with socket.socket(socket.AF_UNIX) as connection:
                    return connection.connect_ex(ready.target) == 0
            case "api":
                return self._api.answers(ready.target, ready.condition)
            case "http":
                return _get(urllib.request.build_opener(), ready.target) is not None

    def _reap(self) -> Failure | None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return None
                if (failure := self._death(pid, status)) is not None:
                    return failure
        return None

    def _death(self, pid: int, status: int) -> Failure | None:
        """What the end of process `pid` means; None for a stray, which process 1 inherits."""
        for name, process in self._processes.items():
            if process.pid == pid:
                code = os.waitstatus_to_exitcode(status)
                process.returncode = code
                log = self._log(name)
                return Failure(
                    kind="died",
                    subject=(name,),
                    ended=_how_it_ended(code),
                    reason=log_reason(tail(log)),
                    log=str(log),
                )
        return None

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _report(self, phase: Phase) -> None:
        write_status(self._folder, Status(phase=phase, ready=tuple(self._ready)))


class _ApiProbe:
    """GETs on the API server as the administrator."""

    def __init__(self, access: ApiAccess) -> None:
        self._access = access

    @functools.cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        context = ssl.create_default_context(cafile=self._access.authority)
        context.load_cert_chain(self._access.certificate, self._access.key)
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def answers(self, path: str, condition: str) -> bool:
        """Whether GET gives 200 and an object whose condition is True, where one is named."""
        body = _get(self._opener, self._access.server + path)
        if body is None or not condition:
            return body is not None
        conditions = json.loads(body).get("status", {}).get("conditions", [])
        return any(each["type"] == condition and each["status"] == "True" for each in conditions)


def _get(opener: urllib.request.OpenerDirector, url: str) -> bytes | None:
    """The body of a 200, None for anything else."""
    try:
        with opener.open(url, timeout=PROBE_TIMEOUT_S) as response:
            body: bytes = response.read()
            return body
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return None


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    return f"was killed by {signal.Signals(-code).name}"


def set_up(commands: Sequence[Sequence[str]], host_network_fd: int, path: str) -> Failure | None:
    """Run the commands one after the other; the failure of the first that fails."""
    network = f"/proc/self/fd/{host_network_fd}"
    for command in commands:
        done = subprocess.run(
            [word.replace(HOST_NETWORK, network) for word in command],
            env={"PATH": path},
            pass_fds=(host_network_fd,),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            output = done.stderr or done.stdout
            return Failure(
                kind="setup", subject=tuple(command), status=done.returncode, reason=output
            )
    return None


def main(arguments: Sequence[str]) -> int:
    """Supervise until something fails; the reason is left in the status file."""
    plan_file, lock_fd, host_network_fd = arguments
    plan = Plan.from_json(Path(plan_file).read_text("utf-8"))
    failure = set_up(plan.setup, int(host_network_fd), plan.path)
    if failure is None:
        failure = Supervisor(plan, int(lock_fd)).run()
    write_status(Path(plan.folder), Status(phase="failed", failure=failure))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
