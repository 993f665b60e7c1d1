"""The runtime table: versions behind each `spec.runtime.version`. Pure data.

A row is never changed once released, because engines were built with it; a new image is a new row.
Sources: the compatibility matrix of github.com/triton-inference-server/server
(docs/introduction/compatibility.md) and `Requires-Dist` of tensorrt-llm on PyPI.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeVersions:
    """One set of versions that engines are built with and served by."""

    image: str
    """Base of our GPU images."""
    tensorrt_llm: str
    tensorrt: str
    python: str
    """Major and minor version of the interpreter in the image."""
    cuda: str
    minimum_driver: str
    """Oldest version of the node's NVIDIA driver."""


RUNTIMES: Final[Mapping[str, RuntimeVersions]] = {
    "1.2.1": RuntimeVersions(
        image="nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3",
        tensorrt_llm="1.2.1",
        tensorrt="10.14.1.48",
        python="3.12",
        cuda="13.1",
        minimum_driver="590.44.01",
    ),
}
"""By version, oldest first. 1.2.1 is the last stable TensorRT-LLM that builds engines."""

DEFAULT_RUNTIME: Final = "1.2.1"
"""Default of new models. Existing models keep theirs, which the API server stored at creation."""
