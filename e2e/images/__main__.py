"""`python -m e2e.images [NAME...]`: builds images and prints their archives."""

from __future__ import annotations

import sys

from e2e.images import IMAGES, ImagesMissing, build


def main(names: list[str]) -> int:
    """The exit code."""
    if unknown := sorted(set(names) - set(IMAGES)):
        print(f"no image {unknown[0]}; there are {', '.join(IMAGES)}", file=sys.stderr)
        return 2
    try:
        for image in build(names or IMAGES).values():
            print(f"{image.name}\t{image.archive}")
    except ImagesMissing as exc:
        print(f"e2e.images: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
