"""TensorRT's timing caches: measured kernels, kept between builds per GPU product and version.

TensorRT refuses a cache of another GPU or version. A cache only makes builds faster, so nothing
here fails a build.
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


def locate_timing_cache(folder: Path, gpu: Gpu, versions: Versions) -> Path:
    """Return the path of the cache for this GPU and these versions, whether it exists or not."""
    parts = (gpu.product, f"sm{gpu.sm}", versions.tensorrt_llm, versions.tensorrt)
    return folder / f"{'_'.join(re.sub(r'[^A-Za-z0-9.+-]', '-', part) for part in parts)}.cache"


def restore_timing_cache(kept: Path, used: Path) -> None:
    """Copy the kept cache, if any, to where a build will use it."""
    with suppress(OSError):
        shutil.copyfile(kept, used)


def save_timing_cache(used: Path, kept: Path) -> None:
    """Keep the cache that a build has written, if any; a reader sees the old or the new one."""
    with suppress(OSError, BuilderError):
        if data := used.read_bytes():
            kept.parent.mkdir(parents=True, exist_ok=True)
            replace_atomically(kept, data)
