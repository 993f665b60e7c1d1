"""Which requests are let in, and what the others are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_client import Overloaded
from llmjp_client._errors import from_in_band
from llmjp_runtime.front.registry import RequestRegistry, estimate_wait_s
from llmjp_runtime.front.request import RequestError

if TYPE_CHECKING:
    from llmjp_runtime.front.response_stream import Responder

NOBODY = cast("Responder", None)


def refuse(registry: RequestRegistry) -> Overloaded:
    """Return what a client reads in the refusal of one request too many."""
    with pytest.raises(RequestError) as raised:
        registry.admit(NOBODY)
    error = from_in_band(str(raised.value))
    assert isinstance(error, Overloaded)
    return error


def test_a_refusal_says_when_a_place_may_be_free() -> None:
    registry = RequestRegistry(1, drain_grace_s=0)
    ticket = registry.admit(NOBODY)
    assert refuse(registry).retry_after is None  # nothing has ended: who knows
    registry.forget(ticket.key)
    registry.admit(NOBODY)
    hint = refuse(registry).retry_after
    assert hint is not None
    assert 0.1 <= hint <= 30


@pytest.mark.parametrize(
    ("ends", "now", "wait"),
    [
        ([], 5.0, None),
        ([1.0, 2.0, 3.0, 4.0], 5.0, 1.0),
        ([1.0], 9.0, 8.0),  # nothing has ended since
        ([5.0], 5.0, 0.1),
        ([0.0], 9999.0, 30.0),
    ],
)
def test_the_wait_is_the_time_between_two_ends(
    ends: list[float], now: float, wait: float | None
) -> None:
    assert estimate_wait_s(ends, now) == wait


@given(st.lists(st.floats(0, 1e6), min_size=1).map(sorted))
def test_a_wait_is_bounded(ends: list[float]) -> None:
    wait = estimate_wait_s(ends, ends[-1])
    assert wait is not None
    assert 0.1 <= wait <= 30
