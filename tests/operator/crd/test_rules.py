"""Every rule of the custom resource, on a real API server: what passes, and why others do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from llmjp_operator.crd.definition import build_definition
from llmjp_operator.names import MAX_MODEL_NAME
from tests.operator.conftest import Models
from tests.operator.crd.rule_case import RuleCase
from tests.operator.crd.rule_cases import CASES
from tests.operator.model_bodies import make_model_body
from tests.support.api_server import Cause

pytestmark = pytest.mark.cluster

TOO_LONG = (
    "the model's name must have at most 46 characters: pods' names are made of it, and have at "
    "most 63"
)
NO_SERVICE = (
    "the model's name must begin with a letter and have small letters, digits and dashes only: "
    "a Service has the same name"
)
NAMES = (("a" * 47, TOO_LONG), ("llm.jp", NO_SERVICE), ("3-7b", NO_SERVICE))


def of(case: RuleCase) -> str:
    return f"{case.path.removeprefix('spec.')}: {case.sentence[:40]}"


@pytest.mark.parametrize("case", [c for c in CASES if c.before is None], ids=of)
def test_a_spec_that_breaks_a_rule_is_refused_with_its_sentence(
    models: Models, case: RuleCase
) -> None:
    accepted = models.create(make_model_body(case.accepted))
    assert accepted.status == 201, accepted.causes

    refused = models.create(make_model_body(case.refused))
    assert refused.causes == [Cause(case.path, case.sentence)]


@pytest.mark.parametrize("case", [c for c in CASES if c.before is not None], ids=of)
def test_a_change_that_breaks_a_rule_is_refused_with_its_sentence(
    models: Models, case: RuleCase, request: pytest.FixtureRequest
) -> None:
    before = make_model_body(case.before, name=f"changing-{CASES.index(case)}")
    assert models.create(before, dry_run=False).status == 201

    accepted = models.replace({**before, "spec": make_model_body(case.accepted)["spec"]})
    assert accepted.status == 200, accepted.causes

    refused = models.replace({**before, "spec": make_model_body(case.refused)["spec"]})
    assert refused.causes == [Cause(case.path, case.sentence)]


@pytest.mark.parametrize(("name", "sentence"), NAMES)
def test_names_that_pods_and_services_cannot_have_are_refused(
    models: Models, name: str, sentence: str
) -> None:
    assert models.create(make_model_body(name="a" * MAX_MODEL_NAME)).status == 201
    assert models.create(make_model_body(name=name)).causes == [Cause("metadata.name", sentence)]


def test_every_rule_has_its_examples() -> None:
    told = {case.sentence for case in CASES} | {sentence for _, sentence in NAMES}
    assert {rule["message"] for rule in rules(build_definition())} == told


def test_every_rule_is_a_sentence_on_one_line() -> None:
    for rule in rules(build_definition()):
        assert "\n" not in rule["message"]
        assert not rule["message"].endswith(".")
        assert len(rule["message"]) < 200


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        (
            {"engine": {"backend": "onnx"}},
            'supported values: "torch", "tensorrt", "pytorch", "vllm"',
        ),
        ({"runtime": {"version": "1.3.0"}}, 'supported values: "1.2.1"'),
        ({"serving": {"maxSurge": 2}}, "should be less than or equal to 1"),
        ({"serving": {"drainSeconds": -1}}, "should be greater than or equal to 0"),
        ({"engine": {"tensorParallel": 0}}, "should be greater than or equal to 1"),
        ({"engine": {"options": {"fast_build": True}}}, "must be of type integer,string"),
    ],
)
def test_a_value_out_of_range_is_refused(
    models: Models, changes: dict[str, Any], cause: str
) -> None:
    refused = models.create(make_model_body(changes))
    assert refused.status == 422
    assert cause in refused.causes[0].message


@pytest.mark.parametrize(
    "changes",
    [
        {"engin": {}},
        {"engine": {"tensorparallel": 2}},
        {"source": {"huggingFace": {"token": "hf_x"}}},
        {"serving": {"podTemplate": {"spec": {"hostname": "a"}}}},
        {"serving": {"podTemplate": {"spec": {"ephemeralContainers": []}}}},
    ],
)
def test_an_unknown_field_is_refused(models: Models, changes: dict[str, Any]) -> None:
    refused = models.create(make_model_body(changes))
    assert refused.status == 400
    assert "unknown field" in refused.body["message"]
    assert leaf(changes) in refused.body["message"]


def test_all_problems_are_told_at_once(models: Models) -> None:
    broken = {"engine": {"kvCache": "fp8", "padIntermediate": 8}, "hardware": None}
    assert [cause.field for cause in models.create(make_model_body(broken)).causes] == [
        "spec.hardware.gpuProduct",
        "spec.engine.kvCache",
        "spec.engine.padIntermediate",
    ]


def rules(node: object) -> Iterator[dict[str, str]]:
    if isinstance(node, dict):
        yield from node.get("x-kubernetes-validations", [])
    if isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from rules(inner)


def leaf(changes: dict[str, Any]) -> str:
    """The path of the field that is changed, below the spec."""
    [(name, inner)] = changes.items()
    return f"{name}.{leaf(inner)}" if isinstance(inner, dict) and inner else name
