"""Texts of the generated files. Pure; `scripts/generate.py` writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import yaml

from llmjp_operator.crd.definition import build_definition
from llmjp_operator.crd.reference import render_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTE: Final = "# Written by `make generate` from operator/llmjp_operator/api; do not edit.\n"


def render_crd_files() -> Mapping[str, str]:
    """Return the text of each file, by its path in the repository.

    The chart links to `manifests/crd.yaml` (docs/decisions/0006).
    """
    return {
        "manifests/crd.yaml": _NOTE + _render_yaml(build_definition()),
        "docs/llmjpmodel.md": render_reference(),
    }


def _render_yaml(value: object) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, width=100, allow_unicode=True)
    return text
