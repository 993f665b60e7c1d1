"""One tritonserver process: its life from start to end.

The server never outlives the process that started it: the kernel ends it when its parent dies
(prctl PR_SET_PDEATHSIG), and the front model's process watches its own (`front.parent_watch`).

On SIGTERM, tritonserver 2.51 takes no new requests and lets running ones finish. When its own
`--exit-timeout-secs` are over it only logs that and continues, so `wait` kills it then.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from llmjp_runtime.errors import ExitTimedOut, NotEnoughMemory, ServerFailed, ServerTerminated
from llmjp_runtime.executor.tensorrt.engine_config import EngineConfig
from llmjp_runtime.front.repository import render_repository, write_repository
from llmjp_runtime.interpreter import check_interpreter, read_interpreter
from llmjp_runtime.server.cgroup import count_oom_kills, count_usable_threads
from llmjp_runtime.server.command import (
    EXIT_TIMEOUT_S,
    SHM_PREFIX,
    build_command,
    build_environment,
    build_world_command,
    spawn,
)
from llmjp_runtime.server.http_probe import (
    get_reachable_host,
    is_listening,
    is_passing,
    read_failure,
)
from llmjp_runtime.server.installation import find_triton, prepare_backends
from llmjp_runtime.server.log_tail import FailureCause, LogTail, find_cause
from llmjp_runtime.server.model_processes import ModelProcesses
from llmjp_runtime.server.preflight import (
    check_engine_host,
    check_ports,
    read_engine_host,
)
from llmjp_runtime.server.processes import (
    ShutdownRequest,
    find_by_argument,
    is_alive,
    kill_processes,
    list_descendants,
    reap_orphans,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmjp_runtime.server.endpoints import Endpoints
    from llmjp_runtime.server.installation import TritonInstallation
    from llmjp_runtime.settings import ServingSettings

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Triton's python backend keeps its regions
"""Folder of POSIX shared memory."""
WATCH_S = 0.5
"""How often a ready server's processes are looked for."""
FAREWELL_S = 0.5
"""How long the others live on when one process died: the front tells clients of a dead engine."""
KILL_S = 5.0
"""How long mpirun may take to kill its ranks; Open MPI 4.1 waits 2 s before it does."""
LAST_WORDS_S = 1.0
"""How long the output of a server that ended is waited for."""
POLL_S = 0.05
"""How often start and end are looked for."""


class TritonServer:
    """A running tritonserver over one artefact; a context manager that ends it.

    Attributes:
        endpoints: its addresses.
        settings: what the front model was told.
    """

    def __init__(
        self,
        settings: ServingSettings,
        endpoints: Endpoints,
        *,
        log: Path | None = None,
        verbose: bool = False,
        exit_timeout_s: float = EXIT_TIMEOUT_S,
        shutdown: ShutdownRequest | None = None,
    ) -> None:
        """Check what can be checked first, then start. Does not wait for readiness.

        Args:
            settings: handed to the front model.
            endpoints: where to listen.
            log: file for the server's output; None passes it on to stderr.
            verbose: Triton's own informational lines as well.
            exit_timeout_s: between being asked to end and being killed.
            shutdown: called when it is to end, at any time, also before this; see `terminate`.

        Raises:
            TritonMissing, UnusableInterpreter, PortInUse: before anything is started.
            ArtefactInvalid, UnsupportedModel, OptionInvalid: likewise, about an engine.
        """
        installation, engine = _check_start(settings, endpoints)
        self.settings = _complete_settings(settings, endpoints)
        self.endpoints = endpoints
        self._log = log
        self._log_start = 0
        self._shutdown = shutdown or ShutdownRequest()
        self._exit_timeout_s = exit_timeout_s
        self._num_killed = count_oom_kills()
        self._world_size = engine.world_size if engine else 1
        self._shm_prefix = f"llmjp_{os.getpid()}_{endpoints.grpc_port}_"
        self._scratch = Path(tempfile.mkdtemp(prefix="llmjp-serve-"))
        self._models: ModelProcesses | None = None
        try:
            self._process = self._start(installation, engine, verbose=verbose)
        except BaseException:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise
        piped = self._process.stdout
        self._tail = None if piped is None else LogTail(piped)

    def _start(
        self, installation: TritonInstallation, engine: EngineConfig | None, *, verbose: bool
    ) -> subprocess.Popen[bytes]:
        repository = self._repository
        write_repository(render_repository(self.settings, engine), repository)
        leader = build_command(
            installation,
            repository=repository,
            backends=prepare_backends(installation, self._scratch),
            endpoints=self.endpoints,
            shm_prefix=self._shm_prefix,
            secret=secrets.token_hex(16),
            exit_timeout_s=self._exit_timeout_s,
            verbose=verbose,
        )
        command = build_world_command(leader, self._world_size)
        environment = build_environment(installation, os.environ, Path(sys.executable))
        with self._open_output() as output:
            return spawn(command, environment, output)

    def _open_output(self) -> contextlib.AbstractContextManager[IO[bytes] | int]:
        if self._log is None:
            return contextlib.nullcontext(subprocess.PIPE)
        return self._log.open("wb")

    @property
    def _repository(self) -> Path:
        return self._scratch / "repository"

    @property
    def pid(self) -> int:
        """Process id of tritonserver; of mpirun, where there are several ranks."""
        return self._process.pid

    @property
    def grpc_endpoint(self) -> str:
        """`host:port` for clients."""
        return f"{self.endpoints.host}:{self.endpoints.grpc_port}"

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        status = self._process.poll()
        reap_orphans(self._process.pid)
        return status

    def wait(self) -> None:
        """Wait for the ready server to end because it was asked to.

        Raises:
            ServerFailed: it ended by itself, or the process of a model is gone. Triton stays up
                then, and never answers the requests that were running, so it is ended at once:
                every client hears of it, and no probe passes any more.
            NotEnoughMemory: likewise, and the kernel killed a process.
            ExitTimedOut: it was asked to end, and took too long.
        """
        while self._shutdown.requested_at_s is None:
            if (status := self.poll()) is not None:
                raise self._build_failure(f"tritonserver ended with status {status}")
            if (dead := self._find_dead()) is None:
                time.sleep(WATCH_S)
            elif self.poll() is None and self._shutdown.requested_at_s is None:
                time.sleep(FAREWELL_S)
                self._kill()
                raise self._build_failure(f"{dead} died")
        self._shut_down(self._shutdown.requested_at_s + self._exit_timeout_s)

    def _find_dead(self) -> str | None:
        """Return what to call a process that is gone; None while all run."""
        self._models = self._models or self._find_models()
        if (dead := self._models.find_dead()) is not None:
            return dead
        listens = is_listening(self.settings.health_host, self.settings.health_port)
        return None if listens else "the server of probes"

    def _find_models(self) -> ModelProcesses:
        return ModelProcesses(self.pid, self._repository, self.settings.backend)

    def _build_failure(self, what: str) -> NotEnoughMemory | ServerFailed:
        if count_oom_kills() > self._num_killed:
            return NotEnoughMemory(
                f"{what}: the kernel killed it because the container's memory limit was reached"
            )
        return ServerFailed(f"{what}: {self._find_cause().text}{self._format_log_hint()}")

    def _shut_down(self, until_s: float) -> None:
        """End in order: requests first, then the leader, then the other ranks.

        mpirun would kill all ranks 2 s after a signal of its own, so only the leader gets it.
        """
        leader = self._find_leader()
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader, signal.SIGTERM)
        while self.poll() is None and is_alive(leader):
            if time.monotonic() >= until_s:
                self._kill()
                raise ExitTimedOut(
                    f"the server had not ended {self._exit_timeout_s:g} s after it was asked to: "
                    "it was killed, with the requests that were still running"
                )
            time.sleep(POLL_S)
        if leader != self.pid:
            self._kill()
        elif status := self._process.wait():
            raise ServerFailed(
                f"tritonserver ended with status {status}: {self._find_cause().text}"
            )

    def _find_leader(self) -> int:
        """Return the process that has the requests."""
        if self._world_size == 1:
            return self.pid
        found = find_by_argument(list_descendants(self.pid), f"{SHM_PREFIX}{self._shm_prefix}")
        return self.pid if found is None else found

    def wait_ready(
        self, timeout_s: float = 300.0, on_wait: Callable[[float], None] | None = None
    ) -> None:
        """Return once the front model has generated a token and Triton answers.

        Args:
            timeout_s: after how many seconds to give up.
            on_wait: called at every look with the seconds waited so far.

        Raises:
            RuntimeFailure: what the front model raised, where it did.
            ServerFailed: it ended, cannot generate, or is not ready in time; with the reason.
            Terminated: it was asked to end. tritonserver hears signals only when it has loaded, so
                it is killed.
        """
        start = time.monotonic()
        while not self.is_ready():
            waited = time.monotonic() - start
            if self._shutdown.requested_at_s is not None:
                self._kill()
                raise ServerTerminated("the server was asked to end before it was ready")
            if (status := self.poll()) is not None:
                cause, where = self._find_cause(), self._format_log_hint()
                if cause.error is not None:
                    raise cause.error(f"{cause.text}{where}")
                raise ServerFailed(f"tritonserver ended with status {status}: {cause.text}{where}")
            if waited > timeout_s:
                raise ServerFailed(
                    f"tritonserver is not ready after {timeout_s:.0f} s: {self._find_cause().text}"
                    f"{self._format_log_hint()}"
                )
            if (reason := read_failure(self._build_health_url("/livez"))) is not None:
                raise ServerFailed(f"{reason}{self._format_log_hint()}")
            if on_wait:
                on_wait(waited)
            time.sleep(POLL_S)
        self._models = self._find_models()
        self._skip_startup_log()

    def is_ready(self) -> bool:
        """Return whether requests can be sent now."""
        triton = f"http://{self.settings.triton_http}"
        return is_passing(self._build_health_url("/readyz")) and is_passing(
            f"{triton}/v2/health/ready"
        )

    def _build_health_url(self, path: str) -> str:
        return f"http://{get_reachable_host(self.settings.health_host)}:{self.settings.health_port}{path}"

    def _find_cause(self) -> FailureCause:
        """Return the cause that the server's last output gives."""
        if self._log is not None:
            output = self._log.read_bytes()[self._log_start :].decode(errors="replace")
        else:
            assert self._tail is not None, "what has no file is piped"
            if self._process.poll() is not None:
                self._tail.finish(LAST_WORDS_S)
            output = self._tail.text
        return find_cause(output)

    def _skip_startup_log(self) -> None:
        if self._log is not None:
            self._log_start = self._log.stat().st_size
        elif self._tail is not None:
            self._tail.clear()

    def _format_log_hint(self) -> str:
        return f" (log: {self._log})" if self._log is not None else ""

    def terminate(self) -> None:
        """Ask it to finish what runs and end; returns at once. For handlers of signals."""
        self._shutdown()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._find_leader(), signal.SIGTERM)

    def _kill(self) -> None:
        """End it at once, with everything it started.

        mpirun is asked first, so that it tidies up. Killed, it would leave its ranks behind, which
        have groups of their own. The models' processes go before tritonserver: none is left to log
        that it lost its server.
        """
        below = list_descendants(self.pid)
        if self._world_size > 1 and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(KILL_S)
        kill_processes(below)
        self._process.kill()
        self._process.wait()
        # What was started since, or by a process that is gone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self, timeout_s: float = 15.0) -> None:
        """End the server and everything it started, and remove its scratch files. Idempotent."""
        try:
            leader, until = self._find_leader(), time.monotonic() + timeout_s
            self.terminate()
            while self.poll() is None and is_alive(leader) and time.monotonic() < until:
                time.sleep(POLL_S)
            # A server that is stopped while it loads leaves its models' processes behind.
            self._kill()
            if self._tail is not None:
                self._tail.finish(LAST_WORDS_S)
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
            for region in SHARED_MEMORY.glob(f"{self._shm_prefix}*"):
                region.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_start(
    settings: ServingSettings, endpoints: Endpoints
) -> tuple[TritonInstallation, EngineConfig | None]:
    """Check all that can be checked before the start; return what will be started."""
    installation = find_triton()
    check_interpreter(read_interpreter())
    engine = _check_engine(settings, installation)
    check_ports(endpoints.host, endpoints.list_ports(settings.health_port))
    if endpoints.tls is not None:
        endpoints.tls.check()
    return installation, engine


def _complete_settings(settings: ServingSettings, endpoints: Endpoints) -> ServingSettings:
    """Return the settings with the addresses at which the front model reaches its own server."""
    tls = endpoints.tls
    return replace(
        settings,
        triton_http=f"{get_reachable_host(endpoints.http_host)}:{endpoints.http_port}",
        triton_grpc=f"{get_reachable_host(endpoints.host)}:{endpoints.grpc_port}",
        tls_certificate=None if tls is None else tls.certificate.absolute(),
        num_threads=settings.num_threads or count_usable_threads(),
    )


def _check_engine(
    settings: ServingSettings, installation: TritonInstallation
) -> EngineConfig | None:
    if settings.backend != "tensorrt":
        return None
    engine = EngineConfig.load(settings.artefact)
    engine.narrow_limits(settings.max_batch_size, settings.max_context)
    check_engine_host(engine, read_engine_host(installation))
    return engine
