"""All objects of four models as files that a Kubernetes user can review.

UPDATE_GOLDEN=1 writes them. What depends on the sizes of other models is held by `test_properties`,
and every sample, byte for byte, by `test_version_n`.
"""

from __future__ import annotations

import json
import os

import pytest
import yaml

from llmjp_operator.act.kopf_watch import KINDS
from llmjp_operator.settings import Settings
from tests.operator.model_bodies import Object
from tests.operator.render.samples import list_samples, parse_sample, render_all_objects
from tests.support.shared import ROOT

FOLDER = ROOT / "tests" / "operator" / "golden" / "objects"
REVIEWED = ("everything", "llmjp-172b-h200", "llmjp-tiny-cpu", "shared")
"""Every optional field with a hub and a new volume; several GPUs; none; the volumes of others."""


def printed(objects: list[Object]) -> str:
    """As YAML without anchors: what is used twice is written twice."""
    plain = json.loads(json.dumps(objects))
    text: str = yaml.safe_dump_all(plain, width=100, allow_unicode=True)
    return text


@pytest.mark.parametrize(
    ("name", "body", "settings"),
    [pytest.param(c.id, *c.values, id=c.id) for c in list_samples() if c.id in REVIEWED],
)
def test_rendered_objects_are_the_reviewed_ones(
    name: str, body: Object, settings: Settings
) -> None:
    made = printed(render_all_objects(parse_sample(body), settings))
    path = FOLDER / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(made, "utf-8")
    assert path.read_text("utf-8") == made, "after a change on purpose: UPDATE_GOLDEN=1"


def test_together_they_have_every_kind_of_object() -> None:
    kinds = set()
    for path in FOLDER.iterdir():
        kinds |= {obj["kind"] for obj in yaml.safe_load_all(path.read_text("utf-8"))}
    assert kinds == KINDS.keys() - {"Pod"}


def test_no_other_file_is_kept() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(REVIEWED)
