"""What each image is made of. Pure but for reading the files that go into it."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scripts.requirements import requirements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).resolve().parents[2]
SHARED: Final = ROOT.parent / "shared"
TAG: Final = "e2e"
CONSTRAINTS: Final = "constraints.txt"
_FORMAT: Final = "2"
"""Of the archives; raise the number when build.py makes them otherwise."""

_CODE: Final = (
    "pyproject.toml",
    CONSTRAINTS,
    "README.md",
    "LICENSE",
    "scripts/requirements.py",
    "client/llmjp_client",
    "cli/llmjp_cli",
    "engine_builder/llmjp_builder",
    "operator/llmjp_operator",
    "runtime/llmjp_runtime",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One image."""

    name: str
    """`localhost/<name>:e2e`."""
    dockerfile: str
    base: str
    """Name of the image it starts from; `debian` for the bare one."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Of the Dockerfile."""
    extras: tuple[str, ...] = ()
    """Of the project, whose dependencies are downloaded beforehand."""
    inputs: tuple[str, ...] = _CODE
    """Files and folders that go in, relative to the repository."""
    outside: tuple[Path, ...] = ()
    """Further files, from beside the repository; without them there is no image."""


DEBIAN: Final = "debian"
LLM: Final = "llmjp-llm"
"""What builder and runtime share, PyTorch above all, so that a node holds it once."""

RECIPES: Final[tuple[Recipe, ...]] = (
    Recipe(
        name="llmjp-operator",
        dockerfile="operator/Dockerfile",
        base=DEBIAN,
        extras=("operator",),
    ),
    Recipe(
        name=LLM,
        dockerfile="hack/local_images/Dockerfile",
        base=DEBIAN,
        extras=("builder", "client", "runtime", "triton"),
        inputs=(CONSTRAINTS,),
    ),
    Recipe(
        name="llmjp-builder",
        dockerfile="engine_builder/Dockerfile",
        base=LLM,
        arguments={"DEPENDENCIES": "missing"},
    ),
    Recipe(
        name="llmjp-runtime",
        dockerfile="runtime/Dockerfile",
        base=LLM,
        arguments={"DEPENDENCIES": "missing"},
    ),
    Recipe(
        name="llmjp-gpu-stand-in",
        dockerfile="hack/local_images/stand_in/Dockerfile",
        base="llmjp-runtime",
        inputs=("tests/__init__.py", "tests/support", "hack/local_images/stand_in"),
        outside=(SHARED / "trtllm-golden" / "trtllm_build_args_1.3.0rc3.json",),
    ),
)
IMAGES: Final = tuple(recipe.name for recipe in RECIPES if recipe.name != LLM)


def find_recipe(name: str) -> Recipe:
    """The image of that name."""
    return next(one for one in RECIPES if one.name == name)


def name_image(name: str) -> str:
    """What a pod calls the image."""
    return f"localhost/{name}:{TAG}"


def list_requirements(one: Recipe, root: Path = ROOT) -> str:
    """The requirements of its extras, one a line: what its dependencies need of pyproject.toml."""
    document = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    return "".join(f"{line}\n" for line in requirements(document, one.extras))


def compute_key(one: Recipe, base_key: str, root: Path = ROOT) -> str:
    """20 hex digits that stand for everything that goes into an image."""
    words = (
        _FORMAT,
        one.base,
        base_key,
        str(sorted(one.arguments.items())),
        list_requirements(one, root),
    )
    total = hashlib.sha256("\0".join(words).encode())
    for path in (root / one.dockerfile, *(p for name in one.inputs for p in _files(root / name))):
        total.update(f"{path.relative_to(root)}\0".encode())
        total.update(path.read_bytes())
    for path in one.outside:
        total.update(path.read_bytes())
    return total.hexdigest()[:20]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for found in sorted(path.rglob("*")):
        if found.is_file() and "__pycache__" not in found.parts:
            yield found
