"""Command line and environment of a server, and how its process is bound to ours.

An engine of several ranks runs as in TensorRT-LLM's leader mode
(triton_backend/scripts/launch_triton_server.py): as many MPI processes as the engine has ranks,
each a tritonserver with the model `tensorrt_llm`. Rank 0 takes requests; the others never finish
loading, and serve no port here.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
from pathlib import Path
from typing import IO, TYPE_CHECKING

from llmjp_runtime.executor.tensorrt.model_config import ENGINE_MODEL_NAME
from llmjp_runtime.front.parameters import FORWARDED_HEADERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmjp_runtime.server.endpoints import Endpoints
    from llmjp_runtime.server.installation import TritonInstallation

MPIRUN = "mpirun"
_LISTENING = ("--http-", "--grpc-", "--metrics-", "--allow-gpu-metrics")
SHM_PREFIX = "--backend-config=python,shm-region-prefix-name="
"""Prefix of the python backend's shared-memory regions; each rank has its own."""
PR_SET_PDEATHSIG = 1
"""prctl(2)."""
EXIT_TIMEOUT_S = 30.0
"""How long requests may take to end, and the server after them, once it was asked to end."""
FORWARDED = f"(?i)({'|'.join(sorted(FORWARDED_HEADERS))})"
"""Headers of gRPC that reach a model, as parameters. There is no use in HTTP's pattern: Triton 2.51
forwards none to models that stream.
"""
CLOSED_PROTOCOLS = (
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
)
"""Triton's protocols that no client needs: all but health, metadata and inference. Through shared
memory a client could write into the models' processes (CVE-2025-23319 and those after it).
"""
SECRET_NAME = "llmjp-administration"  # noqa: S105  a header's name
"""The header that would open them; its value is made at start, and nobody is told."""
MAX_CONNECTION_AGE_MS = 600_000
"""A client of a Kubernetes Service stays with the pod it first reached for as long as its
connection lives. A connection of this age, give or take a tenth, carries what runs on it to the
end, and new calls go over a new one: so pods that were added get their share.
"""


def build_command(
    installation: TritonInstallation,
    *,
    repository: Path,
    backends: Path,
    endpoints: Endpoints,
    shm_prefix: str,
    secret: str,
    exit_timeout_s: float = EXIT_TIMEOUT_S,
    verbose: bool = False,
) -> list[str]:
    """Return the tritonserver command (pure).

    Args:
        installation: where Triton is.
        repository: its models.
        backends: folder of its backends.
        endpoints: where it listens.
        shm_prefix: of names of shared memory.
        secret: what a request for one of `CLOSED_PROTOCOLS` would have to say.
        exit_timeout_s: see `EXIT_TIMEOUT_S`.
        verbose: Triton's own informational lines as well.
    """
    command = [
        str(installation.binary),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"{SHM_PREFIX}{shm_prefix}",
        f"--http-address={endpoints.http_host}",
        f"--http-port={endpoints.http_port}",
        f"--grpc-address={endpoints.host}",
        f"--grpc-port={endpoints.grpc_port}",
        f"--metrics-address={endpoints.host}",
        f"--metrics-port={endpoints.metrics_port}",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        f"--exit-timeout-secs={math.ceil(exit_timeout_s)}",
        f"--grpc-max-connection-age={MAX_CONNECTION_AGE_MS}",
        "--grpc-keepalive-permit-without-calls=1",
        "--grpc-http2-min-recv-ping-interval-without-data=10000",
        f"--grpc-header-forward-pattern={FORWARDED}",
        f"--http-restricted-api={','.join(CLOSED_PROTOCOLS)}:{SECRET_NAME}={secret}",
        f"--grpc-restricted-protocol={','.join(CLOSED_PROTOCOLS)}:{SECRET_NAME}={secret}",
        f"--log-info={str(verbose).lower()}",
    ]
    if endpoints.tls is not None:
        command += endpoints.tls.options
    if not Path("/dev/nvidiactl").exists():
        command += ["--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"]
    return command


def build_world_command(leader: Sequence[str], world_size: int) -> list[str]:
    """Return the command that runs all ranks (pure).

    Args:
        leader: tritonserver's command line on rank 0, its only one where there is one rank.
        world_size: tp * pp of the engine.
    """
    if world_size == 1:
        return list(leader)
    ranks = [list(leader), *(_build_follower(leader, rank) for rank in range(1, world_size))]
    # Unbound: mpirun pins each of two processes to one core, and everything they start with them.
    line = [MPIRUN, "--allow-run-as-root", "--bind-to", "none"]
    for rank, command in enumerate(ranks):
        line += [":"] if rank else []
        line += ["-n", "1", *command]
    return line


def _build_follower(leader: Sequence[str], rank: int) -> list[str]:
    kept = [
        f"{option}r{rank}_" if option.startswith(SHM_PREFIX) else option
        for option in leader
        if not option.startswith(_LISTENING)
    ]
    return [
        *kept,
        "--model-control-mode=explicit",
        f"--load-model={ENGINE_MODEL_NAME}",
        "--allow-http=false",
        "--allow-grpc=false",
        "--allow-metrics=false",
    ]


def build_environment(
    installation: TritonInstallation, environ: Mapping[str, str], python: Path
) -> dict[str, str]:
    """Return the server's environment (pure): its libraries, and this Python first on PATH."""
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


def spawn(
    command: list[str], environment: dict[str, str], output: IO[bytes] | int
) -> subprocess.Popen[bytes]:
    """Start it; it ends when we do."""
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
