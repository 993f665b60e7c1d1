"""Quantities as the API server spells them, and what a container asks for."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_operator.render.quantities import (
    format_mebibytes,
    normalize_if_valid,
    normalize_quantity,
    render_resources,
)
from llmjp_operator.render.stored_form import normalize_pod_spec

GPU = "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("0", "0"),
        ("0Gi", "0"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("0.5", "500m"),
        ("2.0", "2"),
        ("1000", "1k"),
        ("1000k", "1M"),
        ("1500k", "1500k"),
        ("1024Mi", "1Gi"),
        ("1536Mi", "1536Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Gi", "512Mi"),
        ("1.5Ti", "1536Gi"),
        ("2147483648", "2147483648"),
        ("100n", "100n"),
        ("1000u", "1m"),
    ],
)
def test_quantities_are_spelled_as_the_api_server_does(written: str, kept: str) -> None:
    assert normalize_quantity(written) == kept


BIG = ("k", "M", "G", "T", "P", "E")
UNITS = {"m": Decimal("0.001"), "": Decimal(1)}
UNITS |= {unit: Decimal(1000) ** i for i, unit in enumerate(BIG, 1)}
UNITS |= {
    unit: Decimal(1024) ** i for i, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)
}


def value(quantity: str) -> Decimal:
    number = quantity.rstrip("mkKMGTPEi")
    return Decimal(number) * UNITS[quantity[len(number) :]]


@given(st.integers(1, 10_000_000), st.sampled_from(sorted(UNITS)))
def test_spelling_a_quantity_changes_no_value(number: int, unit: str) -> None:
    once = normalize_quantity(f"{number}{unit}")
    assert value(once) == value(f"{number}{unit}")
    assert normalize_quantity(once) == once


@pytest.mark.parametrize(
    ("written", "kept"),
    [(1, "1"), (0.5, "500m"), ("1000m", "1"), ("1e3", "1e3"), ("lots", "lots"), ("1XY", "1XY")],
)
def test_what_is_no_quantity_is_left_alone(written: Any, kept: str) -> None:
    assert normalize_if_valid(written) == kept


def test_mebibytes_are_rounded_up() -> None:
    assert [format_mebibytes(n) for n in (1, 1 << 20, (1 << 20) + 1, 1 << 30)] == [
        *("1Mi", "1Mi", "2Mi", "1Gi"),
    ]


ESTIMATE = {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "8Gi"}}


@pytest.mark.parametrize(
    ("requests", "limits", "expected"),
    [
        (None, None, ESTIMATE),
        (
            {"memory": "6Gi"},
            None,
            {"requests": {"cpu": "2", "memory": "6Gi"}, "limits": {"memory": "8Gi"}},
        ),
        (
            None,
            {"memory": "2Gi"},
            {"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {"memory": "2Gi"}},
        ),
        (
            {"memory": "16Gi"},
            None,
            {"requests": {"cpu": "2", "memory": "16Gi"}, "limits": {"memory": "16Gi"}},
        ),
        (
            {"cpu": "500m"},
            {"cpu": "1"},
            {
                "requests": {"cpu": "500m", "memory": "4Gi"},
                "limits": {"cpu": "1", "memory": "8Gi"},
            },
        ),
    ],
    ids=["estimate", "a request", "a limit below", "a request above", "both"],
)
def test_resources_of_the_spec_win(requests: Any, limits: Any, expected: Any) -> None:
    assert render_resources(ESTIMATE, (requests, limits), 0, GPU) == expected


@pytest.mark.parametrize("name", ["rdma/ib", "hugepages-2Mi"])
def test_a_request_for_devices_is_a_limit_too(name: str) -> None:
    assert render_resources({}, ({name: "1"}, None), 0, GPU) == {
        "requests": {name: "1"},
        "limits": {name: "1"},
    }
    assert render_resources({}, (None, {name: "1"}), 0, GPU) == {"limits": {name: "1"}}


def test_gpus_follow_from_the_engine_alone() -> None:
    found = render_resources({}, ({GPU: "1"}, None), 4, GPU)
    assert found == {"requests": {GPU: "4"}, "limits": {GPU: "4"}}


def test_without_needs_nothing_is_requested() -> None:
    assert render_resources({}, (None, None), 0, GPU) == {}


def test_pods_are_spelled_as_they_are_kept() -> None:
    container = {
        "name": "a",
        "env": [
            {"name": "NONE", "value": ""},
            {"name": "ONE", "value": "1"},
            {"name": "FIELD", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "SIZE", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        ],
        "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": False}],
        "resources": {"limits": {"cpu": 1}, "claims": [{"name": "c"}]},
    }
    volumes: list[Any] = [
        {"name": "v", "emptyDir": {"sizeLimit": "1024Mi"}},
        {"name": "w", "emptyDir": {}},
    ]
    found = normalize_pod_spec({"containers": [container], "volumes": volumes, "other": 1})
    assert found == {
        "other": 1,
        "containers": [
            {
                "name": "a",
                "env": [
                    {"name": "NONE"},
                    {"name": "ONE", "value": "1"},
                    {
                        "name": "FIELD",
                        "valueFrom": {
                            "fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}
                        },
                    },
                    {
                        "name": "SIZE",
                        "valueFrom": {
                            "resourceFieldRef": {"divisor": "0", "resource": "limits.cpu"}
                        },
                    },
                ],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                "resources": {"limits": {"cpu": "1"}, "claims": [{"name": "c"}]},
            }
        ],
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}, volumes[1]],
    }
