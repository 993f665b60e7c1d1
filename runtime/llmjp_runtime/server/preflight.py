"""What must hold before tritonserver starts, said before it starts.

Each of these fails late and in riddles otherwise: a numpy 2 in the stub corrupts every tensor
silently, a missing libpython shows as a stub that never comes up, a taken port as a dying server.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import platform
import shutil
import socket
import subprocess
import sysconfig
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmjp_runtime.errors import PortInUse, TritonMissing, UnsupportedModel, UnusableInterpreter
from llmjp_runtime.executor.tensorrt.model_config import ENGINE_BACKEND
from llmjp_runtime.server.command import MPIRUN
from llmjp_runtime.server.installation import libpython_name

if TYPE_CHECKING:
    from llmjp_runtime.executor.tensorrt.engine_config import EngineConfig
    from llmjp_runtime.server.installation import TritonInstallation

IMAGE = "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3"
"""The last kind of image with the C++ backend; TensorRT-LLM 1.2.1."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What the running Python is, as far as Triton's python backend cares."""

    version: str
    numpy_version: str | None
    libpython: str
    """File name of the shared library."""
    libpython_found: bool


def observe_interpreter() -> Interpreter:
    """The running interpreter, which is also the one the stub will run."""
    try:
        numpy_version: str | None = importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        numpy_version = None
    return Interpreter(
        platform.python_version(), numpy_version, libpython_name(), _loadable(libpython_name())
    )


def _loadable(library: str) -> bool:
    libdir = sysconfig.get_config_var("LIBDIR")
    if libdir and (Path(libdir) / library).exists():
        return True
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def check_interpreter(interpreter: Interpreter) -> None:
    """Refuse a Python that Triton's python backend cannot work in.

    Raises:
        UnusableInterpreter: says what is wrong and what to install.
    """
    if interpreter.version.split(".")[:2] not in (["3", "11"], ["3", "12"]):
        raise UnusableInterpreter(
            f"Python {interpreter.version} cannot serve: Python 3.11 or 3.12 is needed"
        )
    if interpreter.numpy_version is None:
        raise UnusableInterpreter("numpy is not installed: pip install 'numpy>=1.26,<2'")
    if int(interpreter.numpy_version.split(".")[0]) >= 2:
        raise UnusableInterpreter(
            f"numpy {interpreter.numpy_version} is installed, but Triton's python backend corrupts "
            "every tensor with numpy 2: pip install 'numpy>=1.26,<2'"
        )
    if not interpreter.libpython_found:
        package = interpreter.libpython.split(".so")[0]
        raise UnusableInterpreter(
            f"Python {interpreter.version} has no shared library {interpreter.libpython}, which "
            f"Triton's python backend loads: apt-get install {package}, or use a Python built with "
            "--enable-shared"
        )


def check_ports(host: str, ports: dict[str, int]) -> None:
    """Refuse ports that are taken or given twice; `ports` maps the option's name to the port.

    Raises:
        PortInUse: names the option and the port.
    """
    with ExitStack() as stack:
        for option, port in ports.items():
            probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen(1)
            except OSError as exc:
                if exc.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                why = "is in use" if exc.errno == errno.EADDRINUSE else "needs more privileges"
                raise PortInUse(
                    f"port {port} on {host} {why}: choose another with {option}"
                ) from exc


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((host, 0))
        return [int(each.getsockname()[1]) for each in sockets]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHost:
    """This machine, as far as engines care."""

    has_backend: bool
    """Whether tritonserver has NVIDIA's C++ backend."""
    has_mpirun: bool
    tensorrt_llm: str | None
    """Version installed in this Python; None where it is not, and nothing can be compared."""
    num_gpus: int | None
    """None where nvidia-smi does not say."""


def observe_engine_host(installation: TritonInstallation) -> EngineHost:
    """This machine."""
    try:
        version: str | None = importlib.metadata.version("tensorrt_llm")
    except importlib.metadata.PackageNotFoundError:
        version = None
    return EngineHost(
        has_backend=(installation.backends / ENGINE_BACKEND).is_dir(),
        has_mpirun=shutil.which(MPIRUN) is not None,
        tensorrt_llm=version,
        num_gpus=_num_gpus(),
    )


def _num_gpus() -> int | None:
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
