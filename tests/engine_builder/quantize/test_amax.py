"""The document between calibration and conversion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import BadConfig
from llmjp_builder.convert.amax import Amax, parse_amax, read_amax
from llmjp_builder.convert.splits import ScaleRule

LINEAR = ("a.q", "a.k_proj")
ATTENTION = ("a",)
GOOD = {"activation_amax": {"a.q": 2.0, "a.k_proj": 4}, "kv_amax": {"a": {"k": 896.0, "v": 2.0}}}


def parsed(document: dict[str, Any]) -> Amax:
    return parse_amax(document, LINEAR, ATTENTION, "amax.json")


def test_what_is_written_is_read_back() -> None:
    assert parsed(parsed(GOOD).to_json()) == parsed(GOOD)
    without = {"activation_amax": GOOD["activation_amax"]}
    assert parsed(parsed(without).to_json()) == parsed(without)


def test_scales() -> None:
    amax = parsed(GOOD)
    assert amax.compute_scale(ScaleRule("t", ("a.q", "a.k_proj"))) == np.float32(4) / np.float32(
        448
    )
    assert amax.compute_scale(ScaleRule("t", ("a.k",), least=1.0)) == 2
    assert amax.compute_scale(ScaleRule("t", ("a.v",), least=1.0)) == 1
    assert amax.compute_scale(ScaleRule("t", ("a.k", "a.v"), least=1.0)) == 2
    unknown = parsed({"activation_amax": GOOD["activation_amax"]})
    assert unknown.compute_scale(ScaleRule("t", ("a.k",), least=1.0)) == 1


@given(st.floats(1e-30, 1e38))
def test_a_scale_is_the_float32_quotient(value: float) -> None:
    amax = parsed({"activation_amax": {"a.q": value, "a.k_proj": 1.0}})
    found = amax.compute_scale(ScaleRule("t", ("a.q",)))
    assert found.dtype == np.float32
    assert found == np.float32(value) / np.float32(448)


def test_the_digest_is_of_what_is_used() -> None:
    scales = [ScaleRule("x", ("a.q", "a.k_proj")), ScaleRule("y", ("a.v",), least=1.0)]
    digest = parsed(GOOD).digest_scales(scales)
    unused = {
        "activation_amax": {"a.q": 1.0, "a.k_proj": 4},
        "kv_amax": {"a": {"k": 3.0, "v": 448.0}},
    }
    assert parsed(unused).digest_scales(scales) == digest
    assert parsed(unused).digest_scales([ScaleRule("x", ("a.q",))]) != parsed(GOOD).digest_scales(
        [ScaleRule("x", ("a.q",))]
    )
    changed = {**GOOD, "activation_amax": {"a.q": 2.0, "a.k_proj": 4.5}}
    assert parsed(changed).digest_scales(scales) != digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation_amax": {"a.q": 1.0}}, "a.k_proj is missing"),
        ({"activation_amax": {"a.q": 1, "a.k_proj": 1, "b": 1}}, "b is no such module"),
        ({"activation_amax": None}, "no activation_amax"),
        ({"activation_amax": [1]}, "must be an object"),
        ({"activation_amax": {"a.q": 0, "a.k_proj": 1}}, "positive number, found 0"),
        ({"activation_amax": {"a.q": True, "a.k_proj": 1}}, "positive number, found True"),
        ({"activation_amax": {"a.q": "1", "a.k_proj": 1}}, "positive number, found '1'"),
        ({"activation_amax": {"a.q": 1e-40, "a.k_proj": 1}}, "gives no FP8 scale"),
        ({"activation_amax": {"a.q": 10**400, "a.k_proj": 1}}, "gives no FP8 scale"),
        ({"kv_amax": {"a": 3.0}}, "a number for k and one for v"),
        ({"kv_amax": {"a": {"k": 1.0}}}, "a number for k and one for v"),
        ({"kv_amax": {"b": {"k": 1.0, "v": 1.0}}}, "kv_amax: a is missing"),
        ({"calib_input_ids": []}, "unknown member 'calib_input_ids'"),
    ],
)
def test_what_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message) as caught:
        parsed({**GOOD, **change})
    assert str(caught.value).startswith("amax.json")
    assert caught.value.exit_code == 3


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "amax.json"
    path.write_text(json.dumps(GOOD))
    assert read_amax(path, LINEAR, ATTENTION) == parsed(GOOD)
    path.write_text('{"activation_amax": NaN}')
    with pytest.raises(BadConfig, match="not valid JSON"):
        read_amax(path, LINEAR, ATTENTION)
