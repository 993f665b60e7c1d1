"""Checks of this machine before tritonserver starts: ports, and what an engine needs.

Without them each failure comes late and obscure: a taken port as a server that dies, a missing
backend as a model that does not load. The Python itself is checked in `interpreter`.
"""

from __future__ import annotations

import errno
import importlib.metadata
import shutil
import socket
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_runtime.errors import PortInUse, TritonMissing, UnsupportedModel
from llmjp_runtime.executor.tensorrt.model_config import ENGINE_BACKEND
from llmjp_runtime.server.command import MPIRUN
from llmjp_runtime.server.port_holders import find_port_holder

if TYPE_CHECKING:
    from llmjp_runtime.executor.tensorrt.engine_config import EngineConfig
    from llmjp_runtime.server.installation import TritonInstallation

IMAGE = "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3"
"""The last kind of image with the C++ backend; TensorRT-LLM 1.2.1."""


def check_ports(host: str, ports: dict[str, int]) -> None:
    """Refuse ports that are taken or given twice; `ports` maps the option's name to the port.

    Raises:
        PortInUse: names the option, the port, and who has it where that can be seen.
    """
    with ExitStack() as stack:
        options: dict[int, str] = {}
        for option, port in ports.items():
            if port in options:
                raise PortInUse(f"port {port} is given to {options[port]} and {option}: change one")
            options[port] = option
            probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen(1)
            except OSError as exc:
                if exc.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                taken = exc.errno == errno.EADDRINUSE
                why = _say_in_use(port) if taken else "needs more privileges"
                raise PortInUse(
                    f"port {port} on {host} {why}: choose another with {option}"
                ) from exc


def _say_in_use(port: int) -> str:
    holder = find_port_holder(port)
    return f"is in use by {holder}" if holder else "is in use"


def find_free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((host, 0))
        return [int(each.getsockname()[1]) for each in sockets]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHost:
    """This machine, as far as engines care."""

    has_backend: bool
    """tritonserver has NVIDIA's C++ backend."""
    has_mpirun: bool
    tensorrt_llm: str | None
    """Version installed in this Python; None where it is not, and nothing can be compared."""
    num_gpus: int | None
    """None where nvidia-smi does not say."""


def read_engine_host(installation: TritonInstallation) -> EngineHost:
    """Describe this machine."""
    try:
        version: str | None = importlib.metadata.version("tensorrt_llm")
    except importlib.metadata.PackageNotFoundError:
        version = None
    return EngineHost(
        has_backend=(installation.backends / ENGINE_BACKEND).is_dir(),
        has_mpirun=shutil.which(MPIRUN) is not None,
        tensorrt_llm=version,
        num_gpus=_count_gpus(),
    )


def _count_gpus() -> int | None:
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def check_engine_host(engine: EngineConfig, host: EngineHost) -> None:
    """Refuse a machine that cannot run the engine (pure).

    Raises:
        TritonMissing: NVIDIA's backend or mpirun is not there.
        UnsupportedModel: built by another TensorRT-LLM, or for more GPUs than there are.
    """
    if not host.has_backend:
        raise TritonMissing(
            f"this tritonserver has no backend {ENGINE_BACKEND}, which runs TensorRT engines: run "
            f"inside {IMAGE}"
        )
    if host.tensorrt_llm is not None and host.tensorrt_llm != engine.version:
        raise UnsupportedModel(
            f"the engine was built by TensorRT-LLM {engine.version}, but {host.tensorrt_llm} is "
            "installed here and runs its own only: build it again in this image"
        )
    if host.num_gpus is not None and host.num_gpus < engine.world_size:
        raise UnsupportedModel(
            f"the engine needs {engine.world_size} GPUs (tp {engine.tensor_parallel} x pp "
            f"{engine.pipeline_parallel}), but there are {host.num_gpus}"
        )
    if engine.world_size > 1 and not host.has_mpirun:
        raise TritonMissing(
            f"mpirun is not on PATH, but the engine has {engine.world_size} ranks: run inside "
            f"{IMAGE}"
        )
