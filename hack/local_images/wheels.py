"""What pip installs in images: which versions, and the files, downloaded on this machine.

Containers of a build reach no network; this machine's pip has its own settings, such as
$PIP_EXTRA_INDEX_URL for PyTorch's CPU builds.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from typing import TYPE_CHECKING, Final

from hack.local_images.debian import PYTHON
from hack.local_images.recipes import CONSTRAINTS, RECIPES, ROOT, SHARED, list_requirements
from hack.local_images.tools import ImagesMissing, cache, run
from scripts.requirements import normalise_name, requirements

if TYPE_CHECKING:
    from pathlib import Path

    from hack.local_images.recipes import Recipe

BUILD: Final = "hatchling"
"""What makes the project's wheel."""
_HEADER: Final = """\
# Versions in the images, resolved as a whole; written by `python -m hack.local_images pin`.
"""


def download_wheels(one: Recipe) -> Path:
    """A folder with the wheels of an image's dependencies and of what makes the project's own.

    Raises:
        ImagesMissing: pip could not get them.
    """
    folder = cache() / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [BUILD, *(list_requirements(one).splitlines() if one.extras else ())]
    command = [*_pip("download"), "--dest", str(folder), "--find-links", str(folder)]
    command += [*_links(), "--constraint", str(ROOT / CONSTRAINTS), *wanted]
    try:
        run([*command, "--no-index"])  # all there: no network
    except ImagesMissing:
        run(command)
    return folder


def pin() -> str:
    """The newest versions that the project's ranges allow, as the constraints file has them.

    Raises:
        ImagesMissing: pip found no such versions.
    """
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = requirements(document, {extra for one in RECIPES for extra in one.extras})
    options = ["--dry-run", "--ignore-installed", "--report", "-", *_links()]
    report = json.loads(
        run([*_pip("install"), *options, *document["build-system"]["requires"], *wanted])
    )
    found = {
        normalise_name(item["metadata"]["name"]): re.sub(r"\+.*", "", item["metadata"]["version"])
        for item in report["install"]
    }
    return _HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))


def _pip(command: str) -> list[str]:
    """This environment's pip, for the images' Python."""
    pip = [sys.executable, "-m", "pip"]
    if f"{sys.version_info.major}.{sys.version_info.minor}" != PYTHON:
        other = shutil.which(f"python{PYTHON}")
        if other is None:
            raise ImagesMissing(
                f"python{PYTHON} is missing: pip chooses wheels for the images' Python"
            )
        pip += ["--python", other]
    return [*pip, command, "--quiet", "--only-binary=:all:"]


def _links() -> list[str]:
    """Wheels that lie beside the repository, where they do."""
    links = SHARED / "wheels"
    return ["--find-links", str(links)] if links.is_dir() else []
