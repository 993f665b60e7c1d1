"""Prints what extras of the project need, one requirement a line, for a layer of an image.

python scripts/requirements.py EXTRA[,EXTRA...]

The project itself is installed in a layer above, without its dependencies, so that a change of its
sources costs that layer alone. Standard library only.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

_SELF = re.compile(r"llmjp-serving\[([^\]]+)\]")


def requirements(document: dict[str, object], extras: list[str]) -> list[str]:
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


if __name__ == "__main__":
    text = (Path(__file__).resolve().parent / "pyproject.toml", Path("pyproject.toml"))
    file = next(path for path in text if path.is_file())
    print("\n".join(requirements(tomllib.loads(file.read_text("utf-8")), sys.argv[1].split(","))))
