"""The verdict: each limit alone fails it, and so does every NaN; the JSON holds all of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from llmjp_runtime.verify.agreement import Difference, PartAgreement, TextAgreement
from llmjp_runtime.verify.limits import LIMITS, Limits, Precision
from llmjp_runtime.verify.ranges import FilledRange
from llmjp_runtime.verify.report import Measurement, to_json

PRECISION = Precision.FP8
TEXT = TextAgreement(
    num_tokens=3,
    max_error=0.2,
    mean_error=0.1,
    spread=1.0,
    max_kl=0.02,
    mean_kl=0.01,
    reference_loss=1.0,
    checkpoint_loss=1.05,
    agreeing=2,
    difference=None,
)
GOOD = Measurement(
    precision=PRECISION,
    parts=(PartAgreement("layer 0 mlp", 0.05, 1.01), PartAgreement("lm_head", 0.0, 1.0)),
    ranges=(FilledRange("layer 0 mlp.fc", 0.01, 0.9), FilledRange("layer 0 kv_cache", 1.0, 1e-3)),
    texts=(TEXT, replace(TEXT, num_tokens=7, mean_kl=0.03, checkpoint_loss=1.1)),
)
LIMIT = LIMITS[PRECISION]


def failures(measurement: Measurement, limits: Limits = LIMIT) -> list[str]:
    return list(measurement.failures(limits))


def test_means_are_over_positions() -> None:
    assert GOOD.num_tokens == 10
    assert GOOD.mean_kl == pytest.approx((3 * 0.01 + 7 * 0.03) / 10)
    assert GOOD.reference_perplexity == pytest.approx(math.e)
    assert GOOD.checkpoint_perplexity == pytest.approx(math.exp((2 * 1.05 + 6 * 1.1) / 8))
    assert GOOD.top1_agreement == pytest.approx(0.4)
    assert GOOD.worst_text == 1
    assert GOOD.worst_part.name == "layer 0 mlp"


def test_good_is_good() -> None:
    assert failures(GOOD) == []


@pytest.mark.parametrize("bad", [1.0, math.nan])
@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("mean_kl", "mean KL"),
        ("mean_error", "mean logit error / spread"),
        ("checkpoint_loss", "|ln(perplexity ratio)|"),
    ],
)
def test_each_number_of_the_whole_fails_alone(field: str, says: str, bad: float) -> None:
    value = bad + 1 if field == "checkpoint_loss" else bad
    change: dict[str, Any] = {field: value}
    spoilt = replace(GOOD, texts=(replace(TEXT, **change), GOOD.texts[1]))
    (failure,) = failures(spoilt)
    assert failure.startswith(says)


@pytest.mark.parametrize(
    "part",
    [
        PartAgreement("layer 0 attention", 0.2, 1.0),
        PartAgreement("layer 0 attention", 0.0, 1.1),
        PartAgreement("layer 0 attention", 0.0, 0.9),
        PartAgreement("layer 0 attention", math.nan, 1.0),
        PartAgreement("layer 0 attention", 0.0, math.nan),
    ],
)
def test_each_part_fails_alone(part: PartAgreement) -> None:
    (failure,) = failures(replace(GOOD, parts=(part, *GOOD.parts)))
    assert failure.startswith("layer 0 attention: error ")
    (failure,) = failures(replace(GOOD, parts=(part, part, *GOOD.parts)))
    assert failure.endswith("(2 of 4 parts are off)")


@pytest.mark.parametrize(
    ("found", "good"),
    [
        (FilledRange("layer 0 mlp.fc", 1.0, 1.0), True),
        (FilledRange("layer 0 mlp.fc", 1.0, 0.01), False),
        (FilledRange("layer 0 mlp.fc", 1.0, 5.0), False),
        (FilledRange("layer 0 mlp.fc", 1.0, math.nan), False),
        (FilledRange("layer 0 kv_cache", 1.0, 0.0001), True),
        (FilledRange("layer 0 kv_cache", 1.5, 0.0001), False),
        (FilledRange("layer 0 kv_cache", 1.0, 5.0), False),
    ],
)
def test_ranges(found: FilledRange, good: bool) -> None:
    said = failures(replace(GOOD, ranges=(found,)))
    assert bool(said) != good
    assert all(failure.startswith(found.name) for failure in said)


def test_limits_can_be_changed() -> None:
    assert failures(GOOD, replace(LIMIT, mean_kl=0.001)) != []
    assert set(LIMITS) == set(Precision)


def test_json() -> None:
    difference = Difference(position=2, reference_id=5, checkpoint_id=6, margin=0.5)
    texts = (TEXT, replace(TEXT, difference=difference, max_error=math.nan))
    measurement = replace(GOOD, texts=texts)
    said = failures(measurement)
    document = json.loads(json.dumps(to_json(measurement, LIMIT, said), allow_nan=False))
    assert document["verdict"] == "pass"
    assert document["precision"] == "fp8"
    assert document["logit_error"]["max"] is None  # NaN, which JSON does not have
    first = document["greedy"]["first_difference"]
    assert first == {
        "prompt": 1,
        "position": 2,
        "reference_id": 5,
        "checkpoint_id": 6,
        "margin": 0.5,
    }
    assert document["greedy"]["num_equal_replies"] == 1
    assert [part["name"] for part in document["parts"]] == ["layer 0 mlp", "lm_head"]
    assert to_json(measurement, LIMIT, ["no"])["verdict"] == "fail"
