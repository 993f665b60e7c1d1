"""The running Python, which Triton's python backend must be able to work in.

A numpy 2 corrupts every tensor silently, and a missing libpython shows as a stub process that never
comes up: so both are checked, before the server starts and again inside its stub.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import platform
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from llmjp_runtime.errors import UnusableInterpreter


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The running Python, as far as Triton's python backend depends on it."""

    version: str
    numpy_version: str | None
    libpython: str
    """File name of the shared library."""
    libpython_found: bool


def read_interpreter() -> Interpreter:
    """Describe the running interpreter, which is also the one that the stub will run."""
    try:
        numpy_version: str | None = importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        numpy_version = None
    return Interpreter(
        platform.python_version(),
        numpy_version,
        get_libpython_name(),
        _is_loadable(get_libpython_name()),
    )


def _is_loadable(library: str) -> bool:
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


def get_libpython_name() -> str:
    """Return the shared library that the stub of this Python loads."""
    return f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
