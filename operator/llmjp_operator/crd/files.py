"""The generated files. Pure; `scripts/generate.py` writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import yaml

from llmjp_operator.crd.definition import definition
from llmjp_operator.crd.reference import reference

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTE: Final = "# Written by `make generate` from operator/llmjp_operator/api; do not edit.\n"
_KEEP: Final = {"helm.sh/resource-policy": "keep"}
"""Uninstalling a chart must not delete the CRD: with it, every model would go."""


def crd_files() -> Mapping[str, str]:
    """Text by path in the repository.

    The chart's copy is plain YAML outside `templates/`, where nothing has to be escaped; a template
    includes it, so that `helm upgrade` changes the CRD (Helm never touches those under `crds/`).
    """
    return {
        "manifests/crd.yaml": _NOTE + _yaml(definition()),
        "charts/llmjp-operator/files/crd.yaml": _NOTE + _yaml(definition(_KEEP)),
        "docs/llmjpmodel.md": reference(),
    }


def _yaml(value: object) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, width=100, allow_unicode=True)
    return text
