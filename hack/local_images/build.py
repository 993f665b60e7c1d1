"""Makes what the recipes say, in the cache outside the checkout."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hack.local_images import debian
from hack.local_images.recipes import (
    DEBIAN,
    LLM,
    RECIPES,
    ROOT,
    Recipe,
    compute_key,
    find_recipe,
    list_requirements,
    name_image,
)
from hack.local_images.tools import EPOCH, ImagesMissing, buildah, cache, install, say
from hack.local_images.wheels import download_wheels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hack.local_cluster import Cluster

KEPT: Final = 3
"""Archives of one image, the last used: other checkouts have other sources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image as a file."""

    name: str
    """As pods call it."""
    archive: Path


def build(names: Iterable[str]) -> dict[str, Image]:
    """The images of these names, made if they are not in the cache; by name.

    Raises:
        ImagesMissing: this machine cannot.
    """
    wanted = set(names)
    with _alone():
        images = {one.name: _image(one) for one in RECIPES if one.name in wanted}
        if any(_prune(name) for name in images):
            _prune_storage()
    return images


def load(cluster: Cluster, names: Iterable[str]) -> dict[str, str]:
    """Put images on a node of ours; how pods call them, by name.

    Raises:
        ImagesMissing: this machine cannot build them.
    """
    made = build(names)
    for image in made.values():
        cluster.import_image(image.archive)
    return {name: image.name for name, image in made.items()}


def is_reproducible(name: str) -> bool:
    """Whether an image that is made again, without any cache, has the same layers.

    Raises:
        ImagesMissing: this machine cannot.
    """
    one, again = find_recipe(name), f"localhost/{name}:again"
    with _alone():
        install()
        _make(one)
        say(f"building {name} again")
        _run(one, again, "--no-cache")
        try:
            return _layers(again) == _layers(_local(one))
        finally:
            buildah("rmi", again)


def _layers(name: str) -> list[str]:
    document = json.loads(buildah("inspect", "--type", "image", name))
    layers: list[str] = document["OCIv1"]["rootfs"]["diff_ids"]
    return layers


def _image(one: Recipe) -> Image:
    archive = _archive(one)
    if archive.exists():
        os.utime(archive)
    else:
        install()
        _make(one)
        partial = archive.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        target = f"oci-archive:{partial}:{name_image(one.name)}"
        buildah("push", "--compression-format", "zstd", _local(one), target)
        partial.rename(archive)
    return Image(name=name_image(one.name), archive=archive)


def _archive(one: Recipe) -> Path:
    return cache() / f"{one.name}-{_key(one.name)}.tar"


@functools.cache
def _key(name: str) -> str:
    """Computed once: sources that change during a build are the next process's."""
    one = find_recipe(name)
    if missing := [path for path in one.outside if not path.is_file()]:
        raise ImagesMissing(f"{one.name}: {missing[0]} is missing")
    return compute_key(one, debian.KEY if one.base == DEBIAN else _key(one.base))


def _local(one: Recipe) -> str:
    """What buildah calls it."""
    return f"localhost/{one.name}:{_key(one.name)}"


def _make(one: Recipe) -> None:
    """The image in buildah's storage."""
    if _is_built(_local(one)):
        return
    if not _is_built(debian.NAME):
        debian.make()
    if one.base != DEBIAN:
        _make(find_recipe(one.base))
    say(f"building {one.name}")
    _run(one, _local(one))


def _run(one: Recipe, tag: str, *options: str) -> None:
    """buildah, over the base that is there."""
    base = debian.NAME if one.base == DEBIAN else _local(find_recipe(one.base))
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch)
        _context(one, context)
        buildah(
            "bud",
            *("--isolation", "chroot", "--layers", "--timestamp", EPOCH),
            *("--volume", f"{download_wheels(one)}:/wheels:ro"),
            *(f"--build-arg={name}={value}" for name, value in _arguments(one, base).items()),
            *("--file", str(ROOT / one.dockerfile), "--tag", tag),
            *options,
            str(context),
        )


def _arguments(one: Recipe, base: str) -> dict[str, str]:
    """Of the Dockerfile: those that it knows."""
    text = (ROOT / one.dockerfile).read_text(encoding="utf-8")
    general = {
        "BASE_IMAGE": base,
        "PYTHON_IMAGE": debian.NAME,
        "PIP_OPTIONS": "--no-index --find-links /wheels",
    }
    known = {name: value for name, value in general.items() if f"ARG {name}" in text}
    return known | dict(one.arguments)


def _context(one: Recipe, folder: Path) -> None:
    """What goes in, and nothing else."""
    for name in one.inputs:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    for path in one.outside:
        shutil.copy2(path, folder / Path(one.dockerfile).parent / path.name)
    (folder / "requirements.txt").write_text(list_requirements(one), encoding="utf-8")


def _is_built(name: str) -> bool:
    try:
        buildah("inspect", "--type", "image", name)
    except ImagesMissing:
        return False
    return True


def _prune(name: str) -> bool:
    """Remove an image's archives but the last used; whether there were others."""
    archives = sorted(
        cache().glob(f"{name}-{'[0-9a-f]' * 20}.tar"), key=lambda p: p.stat().st_mtime
    )
    for old in archives[:-KEPT]:
        old.unlink(missing_ok=True)
    return len(archives) > KEPT


def _prune_storage() -> None:
    """Remove from buildah's storage what no kept archive was made of, and nothing is made on."""
    kept = {debian.NAME, _local(find_recipe(LLM))}
    for name in buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        archive = f"{name.rpartition('/')[2].replace(':', '-')}.tar"
        if name.startswith("localhost/") and name not in kept and not (cache() / archive).exists():
            buildah("rmi", name)
    buildah("rmi", "--prune")


@contextmanager
def _alone() -> Iterator[None]:
    """One builder at a time; the lock goes with its process."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
