"""One tritonserver process: its command line, its life from start to end.

The server never outlives the process that started it: the kernel ends it when its parent dies
(prctl PR_SET_PDEATHSIG), and the front model's process watches its own parent (`front.orphan`).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from llmjp_runtime.errors import ServerFailed
from llmjp_runtime.executor.tensorrt_config import EngineConfig
from llmjp_runtime.front.repository import model_repository, write_repository
from llmjp_runtime.server.engine_host import check_engine_host, observe_engine_host
from llmjp_runtime.server.installation import backend_directory, find_triton
from llmjp_runtime.server.output import Tail
from llmjp_runtime.server.preflight import check_interpreter, check_ports, observe_interpreter
from llmjp_runtime.server.ranks import world_command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmjp_runtime.server.installation import TritonInstallation
    from llmjp_runtime.server.listen import Listen
    from llmjp_runtime.settings import ServingSettings

PR_SET_PDEATHSIG = 1
"""prctl(2)."""
ANY_ADDRESS = "0.0.0.0"  # noqa: S104  compared with, never bound by default
"""Listening on every address."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Triton's python backend keeps its regions
"""Folder of POSIX shared memory."""
WATCH_S = 0.5
"""How often a ready server's front model is looked for."""
KILL_S = 10.0
"""How long mpirun may take to kill its ranks."""
LAST_WORDS_S = 1.0
"""How long the output of a server that ended is waited for."""
POLL_S = 0.05
"""How often start and end are looked for."""


def command_line(
    installation: TritonInstallation,
    *,
    repository: Path,
    backends: Path,
    listen: Listen,
    shm_prefix: str,
    verbose: bool = False,
) -> list[str]:
    """The tritonserver command (pure)."""
    command = [
        str(installation.binary),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        f"--http-address={listen.http_host}",
        f"--http-port={listen.http_port}",
        f"--grpc-address={listen.host}",
        f"--grpc-port={listen.grpc_port}",
        f"--metrics-address={listen.host}",
        f"--metrics-port={listen.metrics_port}",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        "--exit-timeout-secs=30",
        "--grpc-keepalive-permit-without-calls=1",
        "--grpc-http2-min-recv-ping-interval-without-data=10000",
        f"--log-info={str(verbose).lower()}",
    ]
    if listen.tls is not None:
        command += listen.tls.options
    if not Path("/dev/nvidiactl").exists():
        command += ["--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"]
    return command


def server_environment(
    installation: TritonInstallation, environ: Mapping[str, str], python: Path
) -> dict[str, str]:
    """The server's environment (pure): its libraries, and this Python first on PATH."""
    libraries = [str(path) for path in installation.library_paths]
    if environ.get("LD_LIBRARY_PATH"):
        libraries.append(environ["LD_LIBRARY_PATH"])
    return {
        **environ,
        "PATH": os.pathsep.join([str(python.parent), environ.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        # The stub's stderr is ASCII otherwise, and a log line with Japanese raises.
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
    }


class TritonServer:
    """A running tritonserver over one artefact; a context manager that ends it.

    Attributes:
        listen: its addresses.
        settings: what the front model was told.
    """

    def __init__(
        self,
        settings: ServingSettings,
        listen: Listen,
        *,
        log: Path | None = None,
        verbose: bool = False,
    ) -> None:
        """Check what can be checked beforehand, then start. Does not wait for readiness.

        Args:
            settings: handed to the front model.
            listen: where to listen.
            log: file for the server's output; None passes it on to stderr.
            verbose: Triton's own informational lines as well.

        Raises:
            TritonMissing, UnusableInterpreter, PortInUse: before anything is started.
            ArtefactInvalid, UnsupportedModel, OptionInvalid: likewise, of an engine.
        """
        installation = find_triton()
        check_interpreter(observe_interpreter())
        engine = _checked_engine(settings, installation)
        check_ports(listen.host, listen.options(settings.health_port))
        if listen.tls is not None:
            listen.tls.check()
        http = f"{_reachable(listen.http_host)}:{listen.http_port}"
        self.settings = settings = replace(settings, triton_http=http)
        self.listen = listen
        self._log = log
        self._ending = False
        self._world_size = engine.world_size if engine else 1
        self._shm_prefix = f"llmjp_{os.getpid()}_{listen.grpc_port}_"
        self._scratch = Path(tempfile.mkdtemp(prefix="llmjp-serve-"))
        try:
            repository = self._scratch / "repository"
            write_repository(model_repository(settings, engine), repository)
            leader = command_line(
                installation,
                repository=repository,
                backends=backend_directory(installation, self._scratch),
                listen=listen,
                shm_prefix=self._shm_prefix,
                verbose=verbose,
            )
            command = world_command(leader, self._world_size)
            environment = server_environment(installation, os.environ, Path(sys.executable))
            with self._output() as output:
                self._process = _spawn(command, environment, output)
            piped = self._process.stdout
            self._tail = None if piped is None else Tail(piped)
        except BaseException:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise

    def _output(self) -> contextlib.AbstractContextManager[IO[bytes] | int]:
        if self._log is None:
            return contextlib.nullcontext(subprocess.PIPE)
        return self._log.open("wb")

    @property
    def pid(self) -> int:
        """Process id of tritonserver."""
        return self._process.pid

    @property
    def grpc_endpoint(self) -> str:
        """`host:port` for clients."""
        return f"{self.listen.host}:{self.listen.grpc_port}"

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait for the ready server to end by itself; its exit status.

        Raises:
            ServerFailed: the front model's process is gone. Triton stays up then, and never answers
                the requests that were running, so it is ended at once.
        """
        while (status := self._process.poll()) is None:
            listens = _listens(self.settings.health_host, self.settings.health_port)
            if not listens and self._process.poll() is None and not self._ending:
                self._kill()
                raise ServerFailed(f"the front model's process died{self._reason()}")
            time.sleep(WATCH_S)
        return status

    def wait_ready(
        self, timeout_s: float = 300.0, on_wait: Callable[[float], None] | None = None
    ) -> None:
        """Return once the front model has generated a token and Triton answers.

        Args:
            timeout_s: after how many seconds to give up.
            on_wait: called at every look with the seconds waited so far.

        Raises:
            ServerFailed: it ended, cannot generate, or is not ready in time; with the reason.
        """
        start = time.monotonic()
        while not self.is_ready():
            waited = time.monotonic() - start
            if self._process.poll() is not None:
                status = self._process.returncode
                raise ServerFailed(f"tritonserver ended with status {status}{self._reason()}")
            if waited > timeout_s:
                raise ServerFailed(
                    f"tritonserver is not ready after {timeout_s:.0f} s{self._reason()}"
                )
            if (failure := _failure(self._health_url("/livez"))) is not None:
                raise ServerFailed(f"{failure}{self._where()}")
            if on_wait:
                on_wait(waited)
            time.sleep(POLL_S)

    def is_ready(self) -> bool:
        """Whether requests can be sent now."""
        triton = f"http://{self.settings.triton_http}"
        return _answers(self._health_url("/readyz")) and _answers(f"{triton}/v2/health/ready")

    def _health_url(self, path: str) -> str:
        return f"http://{_reachable(self.settings.health_host)}:{self.settings.health_port}{path}"

    def _reason(self) -> str:
        return f": {failure_reason(self._said())}{self._where()}"

    def _said(self) -> str:
        """What the server printed last."""
        if self._log is not None:
            return self._log.read_text("utf-8", "replace")
        assert self._tail is not None, "what has no file is piped"
        self._tail.finish(LAST_WORDS_S)
        return self._tail.text

    def _where(self) -> str:
        return f" (log: {self._log})" if self._log is not None else ""

    def terminate(self) -> None:
        """Ask it to finish what runs and end; returns at once."""
        self._ending = True
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def _kill(self) -> None:
        """End it at once. `mpirun` is asked first: killed, it would leave its ranks behind."""
        if self._world_size > 1:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(KILL_S)
        self._process.kill()
        self._process.wait()

    def close(self, timeout_s: float = 15.0) -> None:
        """End the server and everything it started, and remove its scratch files. Idempotent."""
        try:
            self.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            # A server that is stopped while it loads leaves its models' processes behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
            for region in SHARED_MEMORY.glob(f"{self._shm_prefix}*"):
                region.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _checked_engine(
    settings: ServingSettings, installation: TritonInstallation
) -> EngineConfig | None:
    if settings.backend != "tensorrt":
        return None
    engine = EngineConfig.load(settings.artefact)
    engine.limits(settings.max_batch_size, settings.max_context)
    check_engine_host(engine, observe_engine_host(installation))
    return engine


def failure_reason(log: str) -> str:
    """The line of a server's log that says why it failed, as a person would pick it (pure)."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    wanted = (r"TritonModelException: (.*)", r"(?:Error|Exception): (.*)", r"^E\d{4} [^\]]*\] (.*)")
    for pattern in wanted:
        found = [m[1] for line in lines if (m := re.search(pattern, line))]
        if found:
            return found[-1].strip('"').strip()
    return lines[-1] if lines else "it said nothing"


def _reachable(host: str) -> str:
    return host if host != ANY_ADDRESS else "127.0.0.1"


def _listens(host: str, port: int) -> bool:
    """Whether somebody accepts connections; a slow answer counts as yes."""
    try:
        with socket.create_connection((_reachable(host), port), timeout=5):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:
        return True


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310  always http
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _failure(probe: str) -> str | None:
    """Why a probe fails that is answered; None where it passes or nobody answers."""
    try:
        with urllib.request.urlopen(probe, timeout=2):  # noqa: S310  always http
            return None
    except urllib.error.HTTPError as exc:
        with exc:
            return str(json.load(exc)["reason"])
    except OSError:
        return None


def _spawn(
    command: list[str], environment: dict[str, str], output: IO[bytes] | int
) -> subprocess.Popen[bytes]:
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def die_with_parent() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    # A group of its own: Ctrl-C reaches us alone, and we end the server in order.
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        process_group=0,
        preexec_fn=die_with_parent,  # noqa: PLW1509  one prctl; nothing else can reach the child
    )
