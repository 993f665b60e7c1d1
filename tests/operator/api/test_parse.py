"""Parsing: what the values are, and how a wrong object is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from llmjp_builder.contracts.spec import Backend, Step
from llmjp_operator.api import Model, Status, encode, parse_model
from llmjp_operator.api.source import HuggingFace
from llmjp_operator.errors import InvalidModel, OperatorError
from tests.operator.crd.rule_cases import CASES
from tests.operator.model_bodies import make_model_body, merge_patch


def test_the_smallest_model_has_defaults() -> None:
    parsed = parse_model(make_model_body(name="llmjp"))
    assert parsed == Model(
        name="llmjp",
        namespace="default",
        uid="",
        generation=0,
        spec=parsed.spec,
        status=parsed.status,
    )
    assert parsed.spec.source.hugging_face == HuggingFace(repository="example/llama")
    assert parsed.spec.engine.backend is Backend.TENSORRT
    assert parsed.spec.storage.created_access_mode == "ReadWriteMany"
    assert parsed.status.phase is None


def test_metadata_and_status_are_read() -> None:
    body = make_model_body() | {
        "metadata": {"name": "a", "namespace": "ml", "uid": "u-1", "generation": 4},
        "status": {"phase": "Building", "build": {"step": "convert", "percent": 41}, "later": 1},
    }
    parsed = parse_model(body)
    assert (parsed.namespace, parsed.uid, parsed.generation) == ("ml", "u-1", 4)
    assert parsed.status.build.step is Step.CONVERT
    assert encode(parsed.status) == {
        "phase": "Building",
        "build": {"step": "convert", "percent": 41},
    }


def test_options_without_a_value_become_true() -> None:
    options = {"fast_build": "true", "weight_streaming": "false", "tokens_per_block": 64}
    engine = parse_model(make_model_body({"engine": {"options": options}})).spec.engine
    assert engine.build_options == {
        "fast_build": True,
        "weight_streaming": False,
        "tokens_per_block": 64,
    }
    assert parse_model(make_model_body()).spec.engine.build_options == {}


def test_quantities_are_read_as_text() -> None:
    changes = {"serving": {"resources": {"limits": {"cpu": 4, "memory": "64Gi"}}}}
    limits = parse_model(make_model_body(changes)).spec.serving.resources.limits
    assert limits == {"cpu": "4", "memory": "64Gi"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
def test_values_written_out_are_read_back(case: Any) -> None:
    spec = parse_model(make_model_body(case.accepted)).spec
    assert parse_model(make_model_body() | {"spec": encode(spec)}).spec == spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"engine": {"backend": "onnx"}},
            'spec.engine.backend: must be one of torch, tensorrt, pytorch, vllm, found "onnx"',
        ),
        (
            {"runtime": {"version": "1.3.0"}},
            'spec.runtime.version: must be one of 1.2.1, found "1.3.0"',
        ),
        (
            {"engine": {"tensorParallel": True}},
            "spec.engine.tensorParallel: must be of type integer, found true",
        ),
        (
            {"engine": {"tensorParallel": 257}},
            "spec.engine.tensorParallel: must be from 1 to 256, found 257",
        ),
        (
            {"engine": {"options": {"fast_build": True}}},
            "spec.engine.options.fast_build: must be of type integer or string, found true",
        ),
        ({"engine": {"tensorparallel": 2}}, "spec.engine.tensorparallel: unknown field"),
        ({"engine": None, "storage": {"size": "5 GB"}}, "spec.storage.size: must be a quantity"),
        ({"storage": None}, "spec.storage: required, but missing"),
        ({"storage": {"size": None}}, "spec.storage: either size, for a volume that is made, or"),
        ({"source": {"huggingFace": None}}, "spec.source: exactly one source is needed"),
        (
            {"source": {"huggingFace": {"repository": None}}},
            "spec.source.huggingFace.repository: required, but missing",
        ),
        (
            {"source": {"huggingFace": {"repository": "a/b/c"}}},
            "spec.source.huggingFace.repository: must be owner/name, such as llm-jp/llm-jp-3-13b",
        ),
        (
            {"serving": {"podTemplate": {"spec": {"hostPID": True}}}},
            "spec.serving.podTemplate.spec.hostPID: must be left out: the pods are kept apart",
        ),
        (
            {"serving": {"tolerations": [{"key": "gpu"}, {"operator": "In"}]}},
            'spec.serving.tolerations[1].operator: must be one of Exists, Equal, found "In"',
        ),
        (
            {"serving": {"nodeSelector": {f"label-{n}": "x" for n in range(33)}}},
            "spec.serving.nodeSelector: must have at most 32 entries, found {",
        ),
        (
            {"source": {"huggingFace": {"revision": "x" * 201}}},
            "spec.source.huggingFace.revision: must have 1 to 200 characters, found",
        ),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidModel) as refused:
        parse_model(make_model_body(changes))
    assert str(refused.value).startswith(message)
    assert refused.value.path == message.partition(":")[0]
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "Model"}, "kind: must be LlmJpModel, found Model"),
        ({"apiVersion": "v1"}, "apiVersion: must be serving.llmjp.dev/v1alpha1, found v1"),
        ({"metadata": None}, "metadata.name: required, but missing"),
        ({"spec": None}, "spec: required, but missing"),
    ],
)
def test_what_is_no_model_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidModel) as refused:
        parse_model(merge_patch(make_model_body(), change))
    assert str(refused.value).startswith(message)


def test_a_status_that_is_none_counts_as_none() -> None:
    """Somebody else wrote it; it is written anew, and the model served all the same."""
    assert (
        parse_model(merge_patch(make_model_body(), {"status": {"phase": "Asleep"}})).status
        == Status()
    )


def test_errors_say_how_a_process_exits() -> None:
    assert (OperatorError.exit_code, InvalidModel.exit_code) == (1, 3)


def test_parsed_values_are_immutable() -> None:
    spec = parse_model(make_model_body()).spec
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.engine.tensor_parallel = 2  # type: ignore[misc]
