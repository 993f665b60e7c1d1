"""Makes what the recipes say, in the cache outside the checkout."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.images.recipes import DEBIAN, RECIPES, ROOT, SHARED, Recipe, key, recipe, reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from e2e.cluster import Cluster

TOOLS: Final = ("buildah", "debootstrap")
_PACKAGES: Final = "python3,python3-venv,python3-pip,libpython3.11,ca-certificates"
_SUITE: Final = "bookworm"
_DEBIAN_KEY: Final = f"{_SUITE}-1"
"""Of the base; raise the number to make it anew."""


class ImagesMissing(Exception):
    """This machine cannot build images; says what is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image as a file."""

    name: str
    """As pods call it."""
    archive: Path


def cache() -> Path:
    """Of this user (XDG Base Directory Specification)."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if root else Path.home() / ".cache"
    return base / "llmjp-serving" / "images"


def install_tools() -> None:
    """Put the tools in place.

    Raises:
        ImagesMissing: not root, or no Debian.
    """
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0:
        raise ImagesMissing("building images needs root (buildah with chroot isolation)")
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ImagesMissing(
            f"{', '.join(missing)} missing; Debian: apt-get install {' '.join(missing)}"
        )
    _say(f"installing {', '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], environment)
    _run(["apt-get", "install", "-qqy", "--no-install-recommends", *missing], environment)


def build(names: Iterable[str]) -> dict[str, Image]:
    """The images of these names, made if they are not in the cache; by name.

    Raises:
        ImagesMissing: this machine cannot.
    """
    wanted = [one.name for one in RECIPES if one.name in set(names)]
    with _alone():
        return {name: _image(recipe(name)) for name in wanted}


def load(cluster: Cluster, names: Iterable[str]) -> dict[str, str]:
    """Put images on a node of ours; how pods call them, by name."""
    made = build(names)
    for image in made.values():
        cluster.import_image(image.archive)
    return {name: image.name for name, image in made.items()}


def _image(one: Recipe) -> Image:
    archive = cache() / f"{one.name}-{_key(one)}.tar"
    if not archive.exists():
        install_tools()
        _made(one)
        partial = archive.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        _buildah("push", _local(one), f"oci-archive:{partial}:{reference(one.name)}")
        partial.rename(archive)
    for old in cache().glob(f"{one.name}-*.tar"):
        if old != archive:
            old.unlink(missing_ok=True)
    return Image(name=reference(one.name), archive=archive)


def _key(one: Recipe) -> str:
    """Computed once: sources that change during a build are the next process's."""
    return _key_of(one.name)


@functools.cache
def _key_of(name: str) -> str:
    one = recipe(name)
    if missing := [path for path in one.outside if not path.is_file()]:
        raise ImagesMissing(f"{one.name}: {missing[0]} is missing")
    base = _DEBIAN_KEY if one.base == DEBIAN else _key(recipe(one.base))
    return key(one, base)


def _local(one: Recipe) -> str:
    """What buildah calls it."""
    return f"localhost/{one.name}:{_key(one)}"


def _made(one: Recipe) -> None:
    """The image in buildah's storage."""
    if _has(_local(one)):
        return
    if one.base == DEBIAN:
        _debian()
        base = f"localhost/{DEBIAN}:{_DEBIAN_KEY}"
    else:
        _made(recipe(one.base))
        base = _local(recipe(one.base))
    _say(f"building {one.name}")
    wheels = _wheels(one)
    arguments = {"BASE_IMAGE": base}
    if "PIP_OPTIONS" in (ROOT / one.dockerfile).read_text(encoding="utf-8"):
        arguments["PIP_OPTIONS"] = "--no-index --find-links /wheels"
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch)
        _context(one, context)
        _buildah(
            "bud",
            *("--isolation", "chroot", "--layers", "--timestamp", "315532800"),
            *("--volume", f"{wheels}:/wheels:ro"),
            *(f"--build-arg={n}={v}" for n, v in (arguments | dict(one.arguments)).items()),
            *("--file", str(ROOT / one.dockerfile), "--tag", _local(one), str(context)),
        )


def _context(one: Recipe, folder: Path) -> None:
    """What goes in, and nothing else."""
    for name in one.inputs:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    (folder / ".dockerignore").unlink(missing_ok=True)
    for path in one.outside:
        shutil.copy2(path, folder / Path(one.dockerfile).parent / path.name)


def _wheels(one: Recipe) -> Path:
    """What pip needs for the image, downloaded with this machine's pip."""
    extras = one.extras
    folder = cache() / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["hatchling>=1.27,<2"]
    if extras:
        script = [sys.executable, str(ROOT / "scripts/requirements.py"), extras]
        found = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
        lines += found.stdout.split("\n")
    links = SHARED / "wheels"
    _run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)),
            *("--find-links", str(folder)),
            *(("--find-links", str(links)) if links.is_dir() else ()),
            *filter(None, lines),
        ],
        dict(os.environ),
    )
    return folder


def _debian() -> None:
    name = f"localhost/{DEBIAN}:{_DEBIAN_KEY}"
    if _has(name):
        return
    archive = cache() / f"{DEBIAN}-{_DEBIAN_KEY}.tar"
    if not archive.exists():
        _say("making a Debian with debootstrap")
        with tempfile.TemporaryDirectory(dir=cache()) as scratch:
            rootfs = Path(scratch) / "rootfs"
            options = ["--variant=minbase", f"--include={_PACKAGES}"]
            _run(["debootstrap", *options, _SUITE, str(rootfs), _mirror()], dict(os.environ))
            shutil.rmtree(rootfs / "var/cache/apt", ignore_errors=True)
            shutil.rmtree(rootfs / "var/lib/apt/lists", ignore_errors=True)
            partial = archive.with_suffix(".partial")
            _run(["tar", "-C", str(rootfs), "-cf", str(partial), "."], dict(os.environ))
            partial.rename(archive)
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch)
        shutil.copy2(archive, context / "base.tar")
        (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n", encoding="utf-8")
        _buildah("bud", "--isolation", "chroot", "--tag", name, str(context))


def _mirror() -> str:
    """Where this machine's own packages come from."""
    asked = ["apt-get", "indextargets", "--format", "$(SITE)", f"Codename: {_SUITE}"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    if not found:
        raise ImagesMissing(f"no package source of Debian {_SUITE} is set up on this machine")
    return found[0]


def _has(name: str) -> bool:
    done = subprocess.run(
        ["buildah", *_storage(), "inspect", "--type", "image", name],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def _storage() -> list[str]:
    return ["--root", str(cache() / "buildah"), "--runroot", "/run/llmjp-images"]


def _buildah(command: str, *arguments: str) -> None:
    _run(["buildah", *_storage(), command, *arguments], dict(os.environ))


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise ImagesMissing(f"{' '.join(command[:6])} ... failed ({done.returncode}):\n{last}")


@contextmanager
def _alone() -> Iterator[None]:
    """One builder at a time; the lock goes with its process."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(what: str) -> None:
    print(f"e2e.images: {what}", file=sys.stderr, flush=True)
