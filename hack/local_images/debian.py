"""A Debian with Python 3.11 to start images from, made with debootstrap: there is no registry.

Without what nobody reads in an image, and without what differs from one making to the next.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hack.local_images.tools import EPOCH, ImagesMissing, buildah, cache, run, say

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON: Final = "3.11"
SUITE: Final = "bookworm"
KEY: Final = f"{SUITE}-2"
"""Of the base; raise the number to make it anew."""
NAME: Final = f"localhost/debian:{KEY}"

_PACKAGES: Final = f"python3,python3-venv,python3-pip,libpython{PYTHON},ca-certificates"
_EMPTIED: Final = (
    "dev",
    "tmp",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/cache/debconf",
    "var/cache/ldconfig",
    "var/lib/apt/lists",
    "var/log",
)
_REMOVED: Final = (
    "debootstrap",
    "etc/.pwd.lock",
    "etc/apt/sources.list",  # of this machine, as the next two are
    "etc/hostname",
    "etc/resolv.conf",
    "etc/machine-id",
    "etc/group-",
    "etc/gshadow-",
    "etc/passwd-",
    "etc/shadow-",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/status-old",
    "var/lib/systemd",
)


def archive() -> Path:
    """The file tree as a tar file, made if it is not in the cache.

    Raises:
        ImagesMissing: this machine cannot.
    """
    target = cache() / f"debian-{KEY}.tar"
    if target.exists():
        return target
    say("making a Debian with debootstrap")
    with tempfile.TemporaryDirectory(dir=cache()) as scratch:
        tree = Path(scratch) / "tree"
        options = ["--variant=minbase", f"--include={_PACKAGES}"]
        run(["debootstrap", *options, SUITE, str(tree), _mirror()])
        _strip(tree)
        partial = target.with_suffix(".partial")
        order = ["--sort=name", f"--mtime=@{EPOCH}", "--numeric-owner"]
        run(["tar", "-C", str(tree), *order, "-cf", str(partial), "."])
        partial.rename(target)
    for old in cache().glob("debian-*.tar"):
        if old != target:
            old.unlink(missing_ok=True)
    return target


def make() -> None:
    """The image `NAME` in buildah's storage.

    Raises:
        ImagesMissing: this machine cannot.
    """
    with tempfile.TemporaryDirectory(dir=cache()) as scratch:
        context = Path(scratch)
        (context / "tree.tar").hardlink_to(archive())
        (context / "Dockerfile").write_text("FROM scratch\nADD tree.tar /\n", encoding="utf-8")
        buildah("bud", "--isolation", "chroot", "--timestamp", EPOCH, "--tag", NAME, str(context))


def _strip(tree: Path) -> None:
    """Take away what images need not have."""
    contents = (found for name in _EMPTIED for found in _inside(tree / name))
    named = (tree / name for name in _REMOVED)
    compiled = tree.rglob("__pycache__")
    manuals = (found for found in tree.glob("usr/share/doc/*/*") if found.name != "copyright")
    doomed = [str(path) for group in (contents, named, compiled, manuals) for path in group]
    run(["rm", "-rf", "--one-file-system", *doomed])
    shadow = tree / "etc/shadow"  # the day on which each account was made
    lines = [line.split(":") for line in shadow.read_text("utf-8").splitlines()]
    shadow.write_text("".join(f"{':'.join([*f[:2], '0', *f[3:]])}\n" for f in lines), "utf-8")


def _inside(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from folder.iterdir()


def _mirror() -> str:
    """Where this machine's own packages come from."""
    asked = ["apt-get", "indextargets", "--format", "$(SITE)", f"Codename: {SUITE}"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    if not found:
        raise ImagesMissing(f"no package source of Debian {SUITE} is set up on this machine")
    return found[0]
