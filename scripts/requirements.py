"""Prints requirements for a layer of an image, one a line. Standard library only.

python scripts/requirements.py extras EXTRA[,EXTRA...]   what extras of the project need
python scripts/requirements.py missing FILE              those of a file that this Python has not

The project itself is installed in a layer above, without its dependencies, so that a change of its
sources costs that layer alone.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_SELF = re.compile(r"llmjp-serving\[([^\]]+)\]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def requirements(document: dict[str, object], extras: Iterable[str]) -> list[str]:
    """The project's own dependencies and those of the extras, sorted, each once (pure)."""
    project = document["project"]
    assert isinstance(project, dict)
    optional = project["optional-dependencies"]
    found = set(project["dependencies"])
    waiting, seen = list(extras), set[str]()
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        if extra not in optional:
            raise SystemExit(f"no extra {extra}; there are {', '.join(sorted(optional))}")
        for requirement in optional[extra]:
            if match := _SELF.fullmatch(requirement):
                waiting += match[1].split(",")
            else:
                found.add(requirement)
    return sorted(found)


def missing(wanted: Iterable[str], present: Collection[str]) -> list[str]:
    """The requirements of which no version is present (pure)."""
    have = {normalise_name(name) for name in present}
    return [one for one in wanted if normalise_name(one) not in have]


def normalise_name(requirement: str) -> str:
    """The name in a requirement, spelt as package indexes compare it (PEP 503)."""
    match = _NAME.match(requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def main(command: str, argument: str) -> list[str]:
    """The lines to print."""
    if command == "extras":
        return requirements(
            tomllib.loads(Path("pyproject.toml").read_text("utf-8")), argument.split(",")
        )
    if command == "missing":
        here = {found.metadata["Name"] for found in importlib.metadata.distributions()}
        return missing(filter(None, Path(argument).read_text("utf-8").splitlines()), here)
    raise SystemExit(__doc__)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    print("\n".join(main(*sys.argv[1:])))
