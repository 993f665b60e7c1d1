"""The command `python -m hack.local_images`.

`[NAME...]` builds images (all by default) and prints their names and archives.
`reproduce [NAME...]` builds them again and reports whether the layers are equal.
`pin` writes the newest versions that the project's ranges allow to constraints.txt.
"""

from __future__ import annotations

import sys

from hack.local_images import IMAGES, ImagesMissing, build, is_reproducible
from hack.local_images.recipes import CONSTRAINTS, ROOT
from hack.local_images.wheels import pin

PREFIX = "llmjp-"


def main(words: list[str]) -> int:
    """The exit code."""
    try:
        if words == ["pin"]:
            (ROOT / CONSTRAINTS).write_text(pin(), encoding="utf-8")
            return 0
        again = words[:1] == ["reproduce"]
        words = words[1:] if again else words
        names = [word if word.startswith(PREFIX) else f"{PREFIX}{word}" for word in words]
        if unknown := sorted(set(names) - set(IMAGES)):
            print(f"no image {unknown[0]}; there are {', '.join(IMAGES)}", file=sys.stderr)
            return 2
        if again:
            return _again(names or list(IMAGES))
        for image in build(names or IMAGES).values():
            print(f"{image.name}\t{image.archive}")
    except ImagesMissing as exc:
        print(f"hack.local_images: {exc}", file=sys.stderr)
        return 1
    return 0


def _again(names: list[str]) -> int:
    """The exit code: 1 if one differs."""
    equal = {name: is_reproducible(name) for name in names}
    for name, same in equal.items():
        print(f"{name}\t{'equal' if same else 'differs'}")
    return 0 if all(equal.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
