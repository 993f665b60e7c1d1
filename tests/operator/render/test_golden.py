"""All objects of a model as files that a Kubernetes user can review; UPDATE_GOLDEN=1 keeps them."""

from __future__ import annotations

import json
import os

import pytest
import yaml

from llmjp_operator.settings import Settings
from tests.operator.objects import Object
from tests.operator.render.samples import cases, desired, read
from tests.support.shared import ROOT

FOLDER = ROOT / "tests" / "operator" / "golden" / "objects"
NAMES = {str(case.id) for case in cases()}


def printed(objects: list[Object]) -> str:
    """As YAML without anchors: what is used twice is written twice."""
    plain = json.loads(json.dumps(objects))
    text: str = yaml.safe_dump_all(plain, width=100, allow_unicode=True)
    return text


@pytest.mark.parametrize(
    ("name", "body", "settings"),
    [pytest.param(case.id, *case.values, id=case.id) for case in cases()],
)
def test_current(name: str, body: Object, settings: Settings) -> None:
    made = printed(desired(read(body), settings))
    path = FOLDER / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(made, "utf-8")
    assert path.read_text("utf-8") == made, "after a change on purpose: UPDATE_GOLDEN=1"


def test_no_other_file_is_kept() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == NAMES
