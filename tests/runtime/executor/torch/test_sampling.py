"""The sampling mathematics against transformers' processors, and what must hold for any numbers."""

from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llmjp_runtime.executor.protocol import GenerationRequest, SamplingParams
from llmjp_runtime.executor.torch.sampler import Sampler
from llmjp_runtime.executor.torch.sampling import (
    Truncation,
    compute_log_probs,
    draw,
    list_likeliest,
    penalize_counts,
    penalize_repetition,
    select_candidates,
)
from llmjp_runtime.executor.torch.sequence import TokenSequence


def random_logits(rows: int, vocab_size: int, *, scale: float = 3.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocab_size, generator=torch.Generator().manual_seed(seed)) * scale


def truncation(rows: int, *, top_k: int = 0, top_p: float = 1.0) -> Truncation:
    return Truncation(torch.full((rows,), top_k), torch.full((rows,), top_p))


def kept_ids(logits: torch.Tensor, rule: Truncation, width: int | None = None) -> list[set[int]]:
    largest, ids = logits.topk(width or logits.shape[1])
    probabilities = (largest - logits.logsumexp(-1, keepdim=True)).exp()
    kept, settled = select_candidates(largest, probabilities, rule, whole=width is None)
    assert settled.all()
    return [set(row[mask].tolist()) for row, mask in zip(ids, kept, strict=True)]


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.05, 2.0])
def test_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    logits = random_logits(3, 50)
    ids = torch.tensor([[4, 9, 4, 30, 7], [1, 1, 1, 1, 1], [49, 0, 2, 3, 4]])
    expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
    penalize_repetition(
        logits, ids, torch.ones_like(ids, dtype=torch.bool), torch.full((3,), penalty)
    )
    torch.testing.assert_close(logits, expected)


def test_repetition_penalty_leaves_stale_history_alone() -> None:
    logits = random_logits(1, 50)
    before = logits.clone()
    ids, valid = torch.tensor([[4, 9, 30]]), torch.tensor([[True, True, False]])
    penalize_repetition(logits, ids, valid, torch.tensor([2.0]))
    assert (logits != before).nonzero()[:, 1].tolist() == [4, 9]


def test_count_penalties_count() -> None:
    logits = torch.zeros(2, 6)
    ids = torch.tensor([[1, 2, 2, 5], [3, 3, 3, 0]])
    valid = torch.tensor([[True, True, True, False], [True, True, True, False]])
    penalize_counts(
        logits,
        ids,
        valid,
        presence=torch.tensor([0.5, 0.0]),
        frequency=torch.tensor([0.25, 1.0]),
    )
    assert logits.tolist() == [[0, -0.75, -1.0, 0, 0, 0], [0, 0, 0, -3.0, 0, 0]]


@pytest.mark.parametrize("top_k", [0, 1, 2, 40, 128, 200, 999, 1000, 5000])
@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.95, 1.0])
def test_truncation_is_that_of_transformers(top_k: int, top_p: float) -> None:
    logits = random_logits(4, 1000)
    warpers = LogitsProcessorList()
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    expected = warpers(torch.zeros(4, 1, dtype=torch.int64), logits.clone()).isfinite()
    expected_ids = [set(row.nonzero().squeeze(1).tolist()) for row in expected]
    assert kept_ids(logits, truncation(4, top_k=top_k, top_p=top_p)) == expected_ids


def test_top_k_keeps_ties_as_transformers_does() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, 2.0, 2.0, 0.0]])
    assert kept_ids(logits, truncation(1, top_k=2)) == [{0, 2, 3, 4}]


@pytest.mark.parametrize("rule", [(0, 0.9), (50, 1.0), (127, 0.95), (3, 0.2)])
def test_a_few_candidates_settle_what_all_would(rule: tuple[int, float]) -> None:
    logits = random_logits(8, 5000, scale=6.0)
    limits = truncation(8, top_k=rule[0], top_p=rule[1])
    assert kept_ids(logits, limits, width=128) == kept_ids(logits, limits)


@pytest.mark.parametrize("rule", [(0, 0.99), (128, 1.0), (300, 0.5), (0, 1.0)])
def test_what_a_few_candidates_cannot_settle_is_not_settled(rule: tuple[int, float]) -> None:
    logits = random_logits(8, 5000, scale=0.1)
    largest, _ = logits.topk(128)
    probabilities = (largest - logits.logsumexp(-1, keepdim=True)).exp()
    limits = truncation(8, top_k=rule[0], top_p=rule[1])
    assert not select_candidates(largest, probabilities, limits, whole=False)[1].any()


@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(0, 1.0), (0, 0.9), (20, 1.0), (300, 0.8), (300, 0.3)]
)
def test_draws_follow_the_distribution(scale: float, top_k: int, top_p: float) -> None:
    """A grid of uniforms gives each id its probability, to within a grid cell at either end."""
    logits, num = random_logits(1, 700, scale=scale), 5000
    warpers = LogitsProcessorList()
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    expected = warpers(torch.zeros(1, 1, dtype=torch.int64), logits.clone()).softmax(-1)[0]
    uniform = (torch.arange(num) + 0.5) / num
    ids = draw(logits.expand(num, -1), truncation(num, top_k=top_k, top_p=top_p), uniform)
    frequency = torch.bincount(ids, minlength=700) / num
    assert (frequency - expected).abs().max() < 2 / num
    assert not frequency[expected == 0].any()


def test_a_row_is_drawn_alike_alone_and_beside_any_other() -> None:
    logits = torch.cat([random_logits(8, 3000, scale=s, seed=i) for i, s in enumerate((0.1, 2, 9))])
    uniform = torch.rand(24, generator=torch.Generator().manual_seed(1))
    limits = Truncation(
        torch.tensor([0, 0, 5, 128, 700, 0, 40, 2999] * 3), torch.tensor([1, 0.9, 1, 0.5] * 6)
    )
    together = draw(logits, limits, uniform)
    alone = [
        draw(logits[i : i + 1], limits[torch.tensor([i])], uniform[i : i + 1]).item()
        for i in range(24)
    ]
    assert together.tolist() == alone


@given(
    logits=st.lists(st.floats(-40, 40, width=32), min_size=2, max_size=40),
    top_p=st.floats(0.001, 0.999),
)
def test_top_p_keeps_the_fewest_that_reach_it(logits: list[float], top_p: float) -> None:
    row = torch.tensor([logits])
    (kept,) = kept_ids(row, truncation(1, top_p=top_p))
    probabilities = row.double().softmax(-1)[0]
    masses = sorted((probabilities[i].item() for i in kept), reverse=True)
    assert sum(masses) >= top_p - 1e-5
    assert sum(masses[:-1]) < top_p + 1e-5
    left_out = [p for i, p in enumerate(probabilities.tolist()) if i not in kept]
    assert max(left_out, default=0.0) <= masses[-1]


@given(
    logits=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=300),
    top_k=st.integers(0, 400),
    top_p=st.floats(1e-6, 1),
    uniform=st.floats(0, 1),
    masked=st.sets(st.integers(0, 299)),
)
@example(logits=[1.0, 0.0], top_k=0, top_p=1.0, uniform=1.0, masked={1})
def test_a_draw_is_always_a_kept_id(
    logits: list[float], top_k: int, top_p: float, uniform: float, masked: set[int]
) -> None:
    row = torch.tensor([logits])
    hidden = [i for i in masked if i < len(logits) and i != row.argmax().item()]
    row[0, hidden] = -torch.inf
    limits = truncation(1, top_k=top_k, top_p=top_p)
    chosen = int(draw(row, limits, torch.tensor([uniform])))
    assert row[0, chosen].isfinite()
    assert chosen in kept_ids(row, limits)[0]


@pytest.mark.parametrize("uniform", [1 - 2.0**-26, 1 - 2.0**-40, 1 - 2.0**-53])
def test_the_largest_draws_are_not_the_least_likely_id(uniform: float) -> None:
    """They round to 1 in float32; the tail of 50,000 ids has less than 1e-18 of the mass."""
    logits = torch.cat([torch.zeros(1, 200), torch.full((1, 50_000), -80.0)], 1)
    given = torch.tensor([uniform], dtype=torch.float64)
    assert draw(logits, truncation(1), given).item() < 200


class LargestDraw(Random):
    """Draws what is nearest to 1."""

    def random(self) -> float:
        return 1 - 2.0**-53


def test_the_sampler_draws_below_one() -> None:
    request = GenerationRequest(
        request_id="a", prompt_ids=(1,), sampling=SamplingParams(max_tokens=1)
    )
    sequence = TokenSequence(request, lambda _: None)
    sequence.rng = LargestDraw()
    logits = torch.cat([torch.zeros(1, 200), torch.full((1, 50_000), -80.0)], 1)
    sampler = Sampler(vocab_size=50_200, num_valid_ids=None)
    (token,) = sampler.sample(logits, [sequence], None)  # type: ignore[arg-type]  # no penalties
    assert token.id < 200


def test_log_probabilities_are_log_softmax() -> None:
    logits, ids = random_logits(5, 90), torch.tensor([0, 89, 3, 3, 40])
    expected = logits.log_softmax(-1)[torch.arange(5), ids]
    torch.testing.assert_close(compute_log_probs(logits, ids), expected)


@pytest.mark.parametrize("count", [1, 5, 20, 90])
def test_the_likeliest_are_those_of_log_softmax(count: int) -> None:
    row = random_logits(1, 60)[0]
    expected = row.log_softmax(-1).sort(descending=True)
    found = list_likeliest(row, count)
    assert [i for i, _ in found] == expected.indices[:count].tolist()
    torch.testing.assert_close(torch.tensor([v for _, v in found]), expected.values[:count])
    assert list_likeliest(row, 0) == ()
