"""Distances, on numbers small enough to work out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmjp_runtime.verify.agreement import (
    PartAgreement,
    Positions,
    TextAgreement,
    TokenErrors,
    find_worst_part,
)


def part(ours: list[list[float]], reference: list[list[float]]) -> PartAgreement:
    return PartAgreement.of("it", TokenErrors.of(torch.tensor(ours), torch.tensor(reference)))


def test_a_part_is_judged_by_its_median_token() -> None:
    reference = [[3.0, 4.0], [0.0, 2.0], [1000.0, 0.0]]
    found = part([[6.0, 8.0], [0.0, 2.0], [1000.0, 500.0]], reference)
    assert found.error == pytest.approx(0.5)  # of 1, 0 and 0.5
    assert found.gain == pytest.approx(1.0)  # of 2, 1 and 1


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.1, 2.0, -1.0])
def test_gain_is_a_scale(factor: float) -> None:
    reference = torch.randn(9, 5, generator=torch.Generator().manual_seed(1))
    found = PartAgreement.of("it", TokenErrors.of(factor * reference, reference))
    assert found.gain == pytest.approx(factor, abs=1e-5)
    assert found.error == pytest.approx(abs(factor - 1), abs=1e-5)


def test_zeros_are_no_trouble() -> None:
    assert part([[0.0, 0.0]], [[0.0, 0.0]]).error == 0


def test_nan_is_the_worst_of_all() -> None:
    good, bad = part([[1.0]], [[1.0]]), part([[math.nan], [1.0], [1.0]], [[1.0], [1.0], [1.0]])
    assert math.isnan(bad.error)
    assert math.isnan(bad.gain)
    assert find_worst_part([good, bad, part([[9.0]], [[1.0]])]) is bad


def agreement(ours: torch.Tensor, reference: torch.Tensor, num_prompt: int) -> TextAgreement:
    """Of a text whose ids are 0, 1, 0, 1, ... in pieces of two positions."""
    follows = torch.tensor([(i + 1) % 2 for i in range(len(ours))])
    pieces = zip(*(torch.split(x, 2) for x in (follows, ours, reference)), strict=True)
    positions = Positions.joined([Positions.of(*piece) for piece in pieces])
    return TextAgreement.of(num_prompt, positions)


def text(ours: list[list[float]], reference: list[list[float]], num_prompt: int) -> TextAgreement:
    return agreement(torch.tensor(ours), torch.tensor(reference), num_prompt)


def test_parts_join_their_tokens() -> None:
    reference = torch.ones(5, 1)
    ours = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]])
    pieces = [
        TokenErrors.of(*piece) for piece in ((ours[:1], reference[:1]), (ours[1:], reference[1:]))
    ]
    assert PartAgreement.of("it", *pieces) == PartAgreement("it", 2.0, 3.0)


def test_logits_by_hand() -> None:
    half, quarter = math.log(0.5), math.log(0.25)
    found = text([[half, half], [0.0, 0.0]], [[quarter, math.log(0.75)], [0.0, 0.0]], 1)
    assert found.max_error == pytest.approx(half - quarter)
    assert found.mean_error == pytest.approx((half - quarter + math.log(1.5)) / 4)
    kl = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert found.max_kl == pytest.approx(kl)
    assert found.mean_kl == pytest.approx(kl / 2)
    assert found.reference_loss == pytest.approx(-math.log(0.75))  # of id 1 after id 0
    assert found.checkpoint_loss == pytest.approx(math.log(2))


def test_the_first_difference_of_the_reply() -> None:
    same, ours = [0.0, 5.0, 0.0], [9.0, 5.0, 0.0]
    reference = [same, same, [0.0, 4.0, 3.5], same]
    found = text([ours, same, [0.0, 1.0, 2.0], ours], reference, num_prompt=2)
    assert found.agreeing == 1
    assert found.difference is not None  # the prompt's own first position does not count
    assert (found.difference.position, found.difference.reference_id) == (1, 1)
    assert found.difference.checkpoint_id == 2
    assert found.difference.margin == pytest.approx(0.5)
    assert text([ours, same, same, same], [same] * 4, num_prompt=2).difference is None


def test_one_token() -> None:
    found = text([[1.0, 2.0]], [[1.0, 2.0]], 1)
    assert (found.reference_loss, found.difference, found.num_tokens) == (0.0, None, 1)


def test_nan_logits_show() -> None:
    found = text([[math.nan, 1.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]], 1)
    assert all(map(math.isnan, (found.max_error, found.mean_error, found.mean_kl, found.max_kl)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.floats(0, 30))
def test_kl_is_no_less_than_zero_and_zero_for_equals(seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = (size * torch.randn(4, 7, generator=generator) for _ in range(2))
    assert agreement(a, b, 2).mean_kl >= 0
    equal = agreement(a, a.clone(), 2)
    assert (equal.max_kl, equal.max_error, equal.agreeing) == (0, 0, 4)
    assert equal.reference_loss == equal.checkpoint_loss
