"""Files on disk: OS errors as the builder's, durable and atomic writes, free space, new folders."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import shutil
import stat
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.errors import (
    AccessDenied,
    BadConfig,
    BuilderError,
    DiskFailed,
    MissingFile,
    NotEnoughDisk,
    OutputExists,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_ABSENT = {errno.ENOENT, errno.ENOTDIR}

_MAX_JSON_BYTES = 256 << 20
"""Largest JSON file that is read whole; real ones, tokenizers, have tens of megabytes."""


def translate_os_error(error: OSError, path: Path, *, needed: int = 0) -> BuilderError:
    """Return the builder's error for an OSError.

    Args:
        error: what the system call raised.
        path: the file or folder of the system call.
        needed: bytes that were to be written, if known.
    """
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return _make_disk_full_error(path, needed)
    if error.errno in _DENIED:
        return AccessDenied(f"{path}: {reason}; the user running this needs access to it")
    if error.errno in _ABSENT:
        return MissingFile(f"{path}: {reason}")
    return DiskFailed(f"{path}: {reason}")


@contextmanager
def os_errors(path: Path, *, needed: int = 0) -> Iterator[None]:
    """Translate an OSError of the block to the builder's error about `path`."""
    try:
        yield
    except OSError as exc:
        raise translate_os_error(exc, path, needed=needed) from exc


def require_free_space(directory: Path, needed: int) -> None:
    """Raise if what is to be written cannot fit.

    Raises:
        NotEnoughDisk: fewer than `needed` bytes are free where `directory` is.
    """
    with os_errors(directory):
        free = shutil.disk_usage(directory).free
    if free < needed:
        raise _make_disk_full_error(directory, needed)


def _make_disk_full_error(path: Path, needed: int) -> NotEnoughDisk:
    folder = path if path.is_dir() else path.parent
    try:
        free = f"{shutil.disk_usage(folder).free:,} bytes are free"
    except OSError:
        free = "how much is free is unknown"
    wanted = f"{needed:,} bytes are needed, " if needed else ""
    return NotEnoughDisk(
        f"{folder}: the disk is full: {wanted}{free}; make room or choose another disk"
    )


def get_regular_file_size(path: Path) -> int:
    """Return the size of a regular file in bytes; symbolic links are followed.

    Raises:
        MissingFile: it does not exist or is a folder, pipe or device.
        AccessDenied: it cannot be reached.
    """
    with os_errors(path):
        info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise MissingFile(f"{path}: not a regular file")
    return info.st_size


def read_json_object(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file of a checkpoint.

    Raises:
        BadConfig: it is not JSON, not an object, or too large to be what its name says.
        MissingFile: it does not exist.
    """
    if (size := get_regular_file_size(path)) > _MAX_JSON_BYTES:
        raise BadConfig(f"{path}: {size:,} bytes are too many for a JSON file of a checkpoint")
    with os_errors(path):
        text = path.read_bytes()
    return parse_json_object(text, str(path))


def parse_json_object(text: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object; infinities and NaN are refused.

    Raises:
        BadConfig: it is not JSON, or not an object.
    """
    try:
        value = json.loads(text, parse_constant=_parse_finite, parse_float=_parse_finite)
    except (ValueError, RecursionError) as exc:
        raise BadConfig(f"{where}: not valid JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise BadConfig(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def _parse_finite(literal: str) -> float:
    if not math.isfinite(number := float(literal)):
        raise ValueError(f"{literal} is not a finite number")
    return number


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    with os_errors(path, needed=len(data)), path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that readers see the old or the new text, never a part; not fsynced."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with os_errors(path, needed=len(data)):
        try:
            partial.write_bytes(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Wait until the folder's entries are on the disk."""
    with os_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a work folder that is renamed to `out` when the block ends without an error.

    Leftovers of a killed process are removed by the next one that writes to the same `out`.

    Raises:
        OutputExists: `out` exists, now or when the block ends.
    """
    _require_absent(out)
    with os_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{out.name}.partial-"
    _remove_abandoned(out.parent, prefix)
    with _owned_folder(out.parent, prefix) as work:
        yield work
        _require_absent(out)
        with os_errors(out):
            work.rename(out)
        sync_directory(out.parent)


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder at `path`; it is removed when the block ends."""
    with os_errors(path):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _owned_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder, locked while its process lives; it is removed when the block ends."""
    with os_errors(parent):
        work = parent / f"{prefix}{uuid.uuid4().hex}"
        work.mkdir()
        descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some network file systems lock no folders; leftovers stay there
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(descriptor)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for left in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(descriptor)


def _require_absent(out: Path) -> None:
    with os_errors(out):
        taken = os.path.lexists(out)
    if taken:
        raise OutputExists(f"{out}: exists already; remove it or choose another folder")
