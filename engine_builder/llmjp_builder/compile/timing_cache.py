"""TensorRT's timing caches: measured kernels, kept per GPU product and version between builds.

A cache of another GPU or version is of no use, and TensorRT refuses it. It only makes builds
faster: nothing here fails a build.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BuilderError
from llmjp_builder.store.files import replace_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_builder.compile.gpu import Gpu
    from llmjp_builder.compile.versions import Versions


def timing_cache(folder: Path, gpu: Gpu, versions: Versions) -> Path:
    """Where the cache for this GPU and these versions is, or would be."""
    parts = (gpu.product, f"sm{gpu.sm}", versions.tensorrt_llm, versions.tensorrt)
    return folder / f"{'_'.join(re.sub(r'[^A-Za-z0-9.+-]', '-', part) for part in parts)}.cache"


def take(kept: Path, used: Path) -> None:
    """Copies the kept cache to where a build will use it, if there is one."""
    with suppress(OSError):
        shutil.copyfile(kept, used)


def keep(used: Path, kept: Path) -> None:
    """Keeps the cache that a build has written, if it has; a reader sees the old or the new one."""
    with suppress(OSError, BuilderError):
        if data := used.read_bytes():
            kept.parent.mkdir(parents=True, exist_ok=True)
            replace_atomically(kept, data)
