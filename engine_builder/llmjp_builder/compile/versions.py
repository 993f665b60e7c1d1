"""The installed versions of TensorRT-LLM and TensorRT, and the path of the compiler."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from llmjp_builder.contracts.errors import CompilerMissing

PROGRAM = "trtllm-build"

_TENSORRT = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
"""Names of TensorRT's distribution: the one in NVIDIA's image, and those per version of CUDA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """Versions that an engine is tied to: it runs with exactly these."""

    tensorrt_llm: str
    tensorrt: str


def detect_versions() -> Versions:
    """Return the versions that this interpreter would import; nothing is imported.

    Raises:
        CompilerMissing: one of them is not installed.
    """
    return Versions(
        tensorrt_llm=_find_version("tensorrt-llm"),
        tensorrt=_find_version(*_TENSORRT),
    )


def find_compiler() -> Path:
    """Return the `trtllm-build` of this interpreter, else the one on PATH.

    Raises:
        CompilerMissing: there is none.
    """
    beside = Path(sys.executable).with_name(PROGRAM)
    if beside.is_file():
        return beside
    if (found := shutil.which(PROGRAM)) is None:
        raise CompilerMissing(
            f"{PROGRAM} is neither beside {sys.executable} nor on PATH; {_ADVICE}"
        )
    return Path(found).absolute()


_ADVICE = "run the build in NVIDIA's image, or install llmjp-serving[tensorrt]"


def _find_version(*names: str) -> str:
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    raise CompilerMissing(f"{names[0]} is not installed for {sys.executable}; {_ADVICE}")
