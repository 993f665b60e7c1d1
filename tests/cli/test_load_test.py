"""The arithmetic of `llmjp bench`."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_cli.load_test import LoadProfile, Percentiles, Sample, Summary
from llmjp_client import Overloaded

LOAD = LoadProfile(prompts=("x",), concurrency=2, num_requests=2, num_warmup=0, max_tokens=None)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([3.0], Percentiles(3.0, 3.0, 3.0)),
        ([2.0, 1.0], Percentiles(1.5, 1.9, 1.99)),
        ([float(n) for n in range(101)], Percentiles(50.0, 90.0, 99.0)),
    ],
)
def test_percentiles(values: list[float], expected: Percentiles | None) -> None:
    found = Percentiles.from_values(values)
    if expected is None or found is None:
        assert found is expected
    else:
        assert (found.p50, found.p90, found.p99) == pytest.approx(
            (expected.p50, expected.p90, expected.p99)
        )


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_are_ordered_and_within(values: list[float]) -> None:
    found = Percentiles.from_values(values)
    assert found
    assert min(values) <= found.p50 <= found.p90 <= found.p99
    assert found.p99 <= max(values) or math.isclose(found.p99, max(values))


def test_a_run() -> None:
    samples = [Sample(10.0, (10.5, 10.6, 10.8), 6), Sample(10.0, (11.0, 12.0), 4)]
    summary = Summary.from_samples(samples, [Overloaded("full"), Overloaded("full")], LOAD)
    assert summary.wall_s == 2.0
    assert (summary.num_tokens, summary.tokens_per_s, summary.tokens_per_arrival) == (10, 5, 2)
    assert summary.failures == {"Overloaded": 2}
    assert summary.first_token
    assert summary.first_token.p50 == pytest.approx(0.75)
    assert summary.inter_token
    assert summary.inter_token.p50 == pytest.approx(0.2)
    assert "5.0 tokens/s (10 in 2.0 s), 2.00 tokens per arrival" in summary.format_throughput()


@pytest.mark.parametrize("samples", [[], [Sample(1.0, (), 1)]])
def test_nothing_to_measure(samples: list[Sample]) -> None:
    summary = Summary.from_samples(samples, [], LOAD)
    assert (summary.tokens_per_s, summary.first_token, summary.inter_token) == (0, None, None)
    assert summary.to_object()["ttft_ms"] is None
