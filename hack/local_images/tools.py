"""The programs that images are made with, and where what they make is kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

PROGRAMS: Final = ("buildah", "debootstrap")
EPOCH: Final = "315532800"
"""Of every file in an image: 1980, the first year that a wheel can hold."""


class ImagesMissing(Exception):
    """This machine cannot build images; says what is needed."""


def cache() -> Path:
    """Of this user (XDG Base Directory Specification)."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if root else Path.home() / ".cache"
    return base / "llmjp-serving" / "images"


def install() -> None:
    """Put the programs in place.

    Raises:
        ImagesMissing: not root, or no Debian.
    """
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if os.geteuid() != 0:
        raise ImagesMissing("building images needs root (buildah with chroot isolation)")
    if not absent:
        return
    if shutil.which("apt-get") is None:
        raise ImagesMissing(
            f"{', '.join(absent)} missing; Debian: apt-get install {' '.join(absent)}"
        )
    say(f"installing {', '.join(absent)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], environment)
    run(["apt-get", "install", "-qqy", "--no-install-recommends", *absent], environment)


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a command prints.

    Raises:
        ImagesMissing: it failed; with the end of what it said.
    """
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise ImagesMissing(f"{' '.join(command[:6])} ... failed ({done.returncode}):\n{last}")
    return done.stdout


def buildah(command: str, *arguments: str) -> str:
    """What buildah prints, over the images in the cache.

    Raises:
        ImagesMissing: it failed.
    """
    # Two caches must not share the folder of mounts either.
    mounts = f"/run/llmjp-images-{hashlib.sha256(str(cache()).encode()).hexdigest()[:8]}"
    storage = ["--root", str(cache() / "buildah"), "--runroot", mounts]
    return run(["buildah", *storage, command, *arguments])


def say(what: str) -> None:
    """One line of progress."""
    print(f"hack.local_images: {what}", file=sys.stderr, flush=True)
