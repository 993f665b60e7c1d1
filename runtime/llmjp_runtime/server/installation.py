"""The installed tritonserver, and its python backend laid out for the running Python.

Two homes are known: NVIDIA's image (`/opt/tritonserver`) and the `nvidia-pytriton` wheel, of which
only the binary and the python backend are used. The wheel keeps one stub per Python version outside
the backend's folder; `prepare_backends` brings them together.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmjp_runtime.errors import TritonMissing
from llmjp_runtime.interpreter import get_libpython_name

if TYPE_CHECKING:
    from collections.abc import Mapping

NVIDIA_HOME = Path("/opt/tritonserver")
"""Where NVIDIA's images keep tritonserver."""
HOME_VARIABLE = "LLMJP_TRITON_HOME"
"""Environment variable that names a tritonserver laid out as NVIDIA's."""


@dataclass(frozen=True, slots=True)
class TritonInstallation:
    """A tritonserver that can be started."""

    binary: Path
    backends: Path
    """Folder with one folder per backend."""
    stub: Path | None
    """The python backend's stub, where it is not in the backend's folder."""
    library_paths: tuple[Path, ...]
    """The folders that the binary and the stub need on LD_LIBRARY_PATH."""


def find_triton(environ: Mapping[str, str] = os.environ) -> TritonInstallation:
    """Find tritonserver: in $LLMJP_TRITON_HOME, NVIDIA's image or the wheel, in this order.

    Raises:
        TritonMissing: there is none; says how to get one.
    """
    named = environ.get(HOME_VARIABLE)
    if named and not (Path(named) / "bin/tritonserver").is_file():
        raise TritonMissing(f"${HOME_VARIABLE} is {named}, but {named}/bin/tritonserver is missing")
    for home in (Path(named) if named else NVIDIA_HOME, NVIDIA_HOME):
        if (home / "bin/tritonserver").is_file():
            return _from_nvidia_home(home)
    wheel = importlib.util.find_spec("pytriton")
    if wheel is not None and wheel.submodule_search_locations:
        return _from_wheel(Path(wheel.submodule_search_locations[0]))
    raise TritonMissing(
        f"no tritonserver found: not in {NVIDIA_HOME} and nvidia-pytriton is not installed; "
        "run inside NVIDIA's Triton image, or: pip install 'llmjp-serving[triton]'"
    )


def _from_nvidia_home(home: Path) -> TritonInstallation:
    return TritonInstallation(home / "bin/tritonserver", home / "backends", None, (home / "lib",))


def _from_wheel(package: Path) -> TritonInstallation:
    home = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    libdir = Path(sysconfig.get_config_var("LIBDIR") or "/nonexistent")
    own = (libdir,) if (libdir / get_libpython_name()).exists() else ()
    return TritonInstallation(
        binary=home / "bin/tritonserver",
        backends=home / "backends",
        stub=home / f"python_backend_stubs/{version}/triton_python_backend_stub",
        library_paths=(package.parent / "nvidia_pytriton.libs", *own),
    )


def prepare_backends(installation: TritonInstallation, scratch: Path) -> Path:
    """Return a folder for `--backend-directory` in which the python backend finds its stub.

    Raises:
        TritonMissing: the installation has no stub for this Python.
    """
    if installation.stub is None:
        return installation.backends
    if not installation.stub.is_file():
        raise TritonMissing(
            f"tritonserver has no python backend for Python {sys.version_info.major}."
            f"{sys.version_info.minor} ({installation.stub} is missing): use Python 3.11 or 3.12"
        )
    python = scratch / "backends" / "python"
    python.mkdir(parents=True)
    for source in (*(installation.backends / "python").iterdir(), installation.stub):
        if source.is_file():
            (python / source.name).symlink_to(source)
    return python.parent
