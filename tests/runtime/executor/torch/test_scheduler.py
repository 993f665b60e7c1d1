"""The scheduler, stepped by hand: joining, leaving, endings, seeds, settings of many at once."""

from __future__ import annotations

import dataclasses
import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from llmjp_runtime.executor.protocol import FinishReason, RecordedEvents, SamplingParams, TokenEvent
from llmjp_runtime.executor.torch.loader import load_model
from llmjp_runtime.executor.torch.model import ParallelLlama

from .running import GREEDY, finish, new_scheduler, prompts, replies, request

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_runtime.executor.protocol import GenerationRequest

CARD = SamplingParams(max_tokens=20, temperature=0.7, top_p=0.95, repetition_penalty=1.05, seed=7)
MIXED = [
    GREEDY,
    CARD,
    SamplingParams(max_tokens=9, seed=1),
    SamplingParams(max_tokens=30, temperature=1.5, top_k=30, seed=2),
    SamplingParams(max_tokens=17, temperature=0, presence_penalty=0.7, frequency_penalty=0.3),
    SamplingParams(max_tokens=25, top_k=1, repetition_penalty=1.4, bad_words=((5,), (7, 9))),
    SamplingParams(max_tokens=12, top_p=0.5, seed=3, embedding_bias=((3, 4.0), (8, -9.0))),
]


def asked(
    prompt: list[int], sampling: SamplingParams = GREEDY, **changes: Any
) -> GenerationRequest:
    return request(prompt, dataclasses.replace(sampling, **changes))


def alone(model: ParallelLlama, wanted: GenerationRequest) -> RecordedEvents:
    return replies(new_scheduler(model), [wanted])[0]


def outcome(events: RecordedEvents) -> tuple[tuple[int, ...], FinishReason | None]:
    return events.token_ids, events.events[-1].finish_reason


def test_events_come_one_a_step_and_count(model: ParallelLlama) -> None:
    (events,) = replies(new_scheduler(model), [asked([4, 5, 6], max_tokens=5)])
    assert [event.num_generated for event in events.events] == [1, 2, 3, 4, 5]
    assert [event.final for event in events.events] == [False] * 4 + [True]
    assert all(event.log_probs is None and event.error is None for event in events.events)
    assert events.events[-1].finish_reason is FinishReason.LENGTH


def test_a_request_joins_while_others_run(model: ParallelLlama) -> None:
    """Whatever the others ask for, and wherever they are, each gets what it gets alone."""
    wanted = [asked(p, s) for p, s in zip(prompts(14), itertools.cycle(MIXED), strict=False)]
    running, recorded = new_scheduler(model, max_batch_size=5, prefill_budget=24), []
    for number, item in enumerate(wanted):
        recorded.append(RecordedEvents())
        running.add(item, recorded[-1])
        for _ in range(number % 4):
            running.step()
    finish(running)
    for item, events in zip(wanted, recorded, strict=True):
        assert outcome(events) == outcome(alone(model, item))


@pytest.mark.parametrize("budget", [1, 7, 32, 512])
def test_a_prompt_may_be_read_in_pieces(model: ParallelLlama, budget: int) -> None:
    wanted = [asked(prompt) for prompt in prompts(3, shortest=50, longest=60)]
    pieces = replies(new_scheduler(model, prefill_budget=budget), wanted)
    assert [outcome(r) for r in pieces] == [outcome(alone(model, item)) for item in wanted]


def test_a_long_prompt_does_not_stall_those_who_run(model: ParallelLlama) -> None:
    running, first, second = (
        new_scheduler(model, prefill_budget=8),
        RecordedEvents(),
        RecordedEvents(),
    )
    running.add(asked([1, 2]), first)
    running.step()
    running.add(asked(prompts(1, shortest=60)[0]), second)
    for number in range(2, 9):
        running.step()
        assert (len(first.events), len(second.events)) == (number, 0)
    running.step()
    assert (len(first.events), len(second.events)) == (9, 1)


def test_more_requests_than_slots_wait_in_order(model: ParallelLlama) -> None:
    running = new_scheduler(model, max_batch_size=2)
    recorded = [RecordedEvents() for _ in range(4)]
    for events in recorded:
        running.add(asked([3, 4], max_tokens=3), events)
    running.step()
    assert (running.num_active, running.num_waiting) == (2, 2)
    assert [len(events.events) for events in recorded] == [1, 1, 0, 0]
    finish(running)
    assert (running.num_active, running.num_waiting, running.num_steps) == (0, 0, 6)
    assert running.num_generated == 12


@pytest.mark.parametrize("after", [0, 1, 3, 6])
def test_cancel_frees_the_slot_within_a_step(model: ParallelLlama, after: int) -> None:
    """Before its prompt is read, in the middle of it, and while decoding."""
    running = new_scheduler(model, max_batch_size=1, prefill_budget=16)
    gone, other = RecordedEvents(), RecordedEvents()
    leaving, staying = asked(prompts(1, shortest=60)[0]), asked([9, 8, 7])
    running.add(leaving, gone)
    running.add(staying, other)
    for _ in range(after):
        running.step()
    generated = len(gone.events)
    running.cancel(leaving.request_id)
    running.step()
    assert len(gone.events) == generated + 1
    assert gone.events[-1] == TokenEvent(
        num_generated=generated, finish_reason=FinishReason.CANCELLED
    )
    assert (running.num_active, running.num_waiting, len(other.events)) == (1, 0, 1)
    finish(running)
    assert outcome(other) == outcome(alone(model, staying))


def test_a_waiting_request_is_cancelled_at_once(model: ParallelLlama) -> None:
    running, first, second = (
        new_scheduler(model, max_batch_size=1),
        RecordedEvents(),
        RecordedEvents(),
    )
    running.add(asked([1]), first)
    waiting = asked([2])
    running.add(waiting, second)
    running.step()
    running.cancel(waiting.request_id)
    running.cancel("nobody")
    running.step()
    assert [event.finish_reason for event in second.events] == [FinishReason.CANCELLED]
    assert (len(first.events), running.num_waiting) == (2, 0)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_any_order_of_leaving_leaves_the_others_alone(model: ParallelLlama, seed: int) -> None:
    chance = random.Random(seed)
    running = new_scheduler(model, max_batch_size=4, prefill_budget=chance.choice([5, 20, 200]))
    wanted = [
        asked(prompt, chance.choice(MIXED), max_tokens=chance.randint(1, 12))
        for prompt in prompts(9, longest=30)
    ]
    recorded = {item.request_id: RecordedEvents() for item in wanted}
    for item in wanted:
        running.add(item, recorded[item.request_id])
        for _ in range(chance.randint(0, 3)):
            running.step()
        if chance.random() < 0.4:
            running.cancel(chance.choice(wanted).request_id)
    finish(running)
    assert (running.num_active, running.num_waiting) == (0, 0)
    for item in wanted:
        events = recorded[item.request_id]
        assert [event.final for event in events.events].count(True) == 1
        expected = alone(model, item).token_ids
        if events.events[-1].finish_reason is FinishReason.CANCELLED:
            expected = expected[: len(events.token_ids)]
        assert events.token_ids == expected


def test_the_same_seed_gives_the_same_reply(model: ParallelLlama) -> None:
    once, again, other, fresh, fresher = replies(
        new_scheduler(model),
        [asked([1, 2, 3], CARD, seed=seed, max_tokens=40) for seed in (7, 7, 8, None, None)],
    )
    assert outcome(once) == outcome(again)
    assert len({events.token_ids for events in (once, other, fresh, fresher)}) == 4


SEEDED = [asked([n, 2, 3], CARD, seed=n, temperature=1.0, max_tokens=40) for n in range(1, 9)]


def test_in_float32_a_seed_holds_whatever_else_runs(model: ParallelLlama) -> None:
    assert model.dtype is torch.float32
    together = replies(new_scheduler(model), SEEDED)
    assert [outcome(each) for each in together] == [outcome(alone(model, each)) for each in SEEDED]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_narrow_dtypes_a_seed_holds_beside_the_same_requests(
    checkpoint: Path, dtype: str
) -> None:
    """Alone is one such case. Another number of rows may round the same sums differently."""
    narrow = load_model(checkpoint, device="cpu", compute_dtype=dtype)
    once, again = (replies(new_scheduler(narrow), SEEDED) for _ in range(2))
    assert [outcome(each) for each in once] == [outcome(each) for each in again]
    assert outcome(alone(narrow, SEEDED[0])) == outcome(alone(narrow, SEEDED[0]))


def test_an_end_id_ends_and_is_not_shown(model: ParallelLlama) -> None:
    free = alone(model, asked([5, 6]))
    end = free.token_ids[4]
    position = free.token_ids.index(end)
    (events,) = replies(new_scheduler(model), [asked([5, 6], end_ids=frozenset({end, 210}))])
    assert events.token_ids == free.token_ids[:position]
    assert events.events[-1].num_generated == position + 1
    assert events.events[-1].finish_reason is FinishReason.STOP


def test_an_end_id_as_the_last_token_is_a_stop(model: ParallelLlama) -> None:
    end = alone(model, asked([5, 6], max_tokens=1)).token_ids[0]
    (events,) = replies(
        new_scheduler(model), [asked([5, 6], max_tokens=1, end_ids=frozenset({end}))]
    )
    assert outcome(events) == ((), FinishReason.STOP)


def test_min_tokens_holds_end_ids_back(model: ParallelLlama) -> None:
    end = frozenset(alone(model, asked([5, 6])).token_ids[:3])
    (events,) = replies(new_scheduler(model), [asked([5, 6], end_ids=end, min_tokens=10)])
    assert not end & set(events.token_ids[:10])
    assert len(events.token_ids) >= 10


def test_bad_words_are_never_completed(model: ParallelLlama) -> None:
    free = alone(model, asked([5, 6])).token_ids
    words = ((free[0],), free[2:4], (5, 6, free[1]))
    (events,) = replies(new_scheduler(model), [asked([5, 6], bad_words=words)])
    everything = (5, 6, *events.token_ids)
    for word in words:
        positions = range(2, len(everything) - len(word) + 1)
        assert all(everything[i : i + len(word)] != word for i in positions)


def test_a_bad_word_begun_in_the_prompt_is_not_completed(model: ParallelLlama) -> None:
    first = alone(model, asked([5, 6])).token_ids[0]
    (events,) = replies(new_scheduler(model), [asked([5, 6], bad_words=((6, first),))])
    assert events.token_ids[0] != first


def test_embedding_bias_decides(model: ParallelLlama) -> None:
    (events,) = replies(new_scheduler(model), [asked([5, 6], embedding_bias=((42, 1000.0),))])
    assert set(events.token_ids) == {42}


def test_ids_beyond_the_valid_ones_are_never_chosen(model: ParallelLlama) -> None:
    wanted = [asked([5, 6], s, embedding_bias=((200, 1000.0),)) for s in (GREEDY, CARD)]
    for events in replies(new_scheduler(model, num_valid_ids=20), wanted):
        assert max(events.token_ids) < 20


def test_penalties_follow_transformers(llama: Any, model: ParallelLlama) -> None:
    prompt = prompts(1, shortest=20)[0]
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=24,
        repetition_penalty=1.3,
        pad_token_id=0,
        eos_token_id=None,
    )
    ids = torch.tensor([prompt])
    expected = llama.generate(ids, generation_config=config, attention_mask=torch.ones_like(ids))
    (events,) = replies(new_scheduler(model), [asked(prompt, repetition_penalty=1.3)])
    assert events.token_ids == tuple(expected[0, len(prompt) :].tolist())


def test_count_penalties_leave_the_prompt_alone(model: ParallelLlama) -> None:
    liked = SamplingParams(max_tokens=2, temperature=0, embedding_bias=((42, 500.0),))
    for sampling in (
        dataclasses.replace(liked, presence_penalty=1e4),
        dataclasses.replace(liked, frequency_penalty=1e4),
    ):
        first, second = alone(model, asked([42, 5], sampling)).token_ids
        assert first == 42 != second


def test_count_penalties_make_every_id_new(model: ParallelLlama) -> None:
    plain = SamplingParams(max_tokens=40, temperature=0)
    for sampling in (
        dataclasses.replace(plain, presence_penalty=1e4),
        dataclasses.replace(plain, frequency_penalty=1e4),
    ):
        (events,) = replies(new_scheduler(model), [asked([5, 6], sampling)])
        assert len(set(events.token_ids)) == 40


@pytest.mark.parametrize("sampling", [GREEDY, CARD])
def test_log_probs_are_of_the_scaled_distribution(
    model: ParallelLlama, sampling: SamplingParams
) -> None:
    plain = dataclasses.replace(sampling, repetition_penalty=1.0)
    prompt = [5, 6, 7]
    recorded = replies(new_scheduler(model), [request(prompt, plain, log_probs=True), asked([1])])
    events = recorded[0]
    logits = model.compute_logits([*prompt, *events.token_ids])[2:-1] / (plain.temperature or 1.0)
    expected = logits.log_softmax(-1)[torch.arange(len(logits)), list(events.token_ids)]
    got = [p for event in events.events for p in event.log_probs or ()]
    torch.testing.assert_close(torch.tensor(got), expected, atol=1e-4, rtol=1e-4)
    assert recorded[1].events[0].log_probs is None


def test_an_end_id_has_no_log_prob(model: ParallelLlama) -> None:
    end = alone(model, asked([5, 6], max_tokens=1)).token_ids[0]
    wanted = request([5, 6], dataclasses.replace(GREEDY, end_ids=frozenset({end})), log_probs=True)
    (events,) = replies(new_scheduler(model), [wanted])
    assert [event.log_probs for event in events.events] == [()]


@pytest.mark.parametrize("temperature", [1e-9, 1e-40, 5e-324])
def test_a_tiny_temperature_is_greedy(model: ParallelLlama, temperature: float) -> None:
    (events,) = replies(new_scheduler(model), [asked([5, 6], temperature=temperature)])
    assert outcome(events) == outcome(alone(model, asked([5, 6])))


def test_a_context_can_be_filled_to_the_brim(model: ParallelLlama) -> None:
    running = new_scheduler(model, max_batch_size=2, max_context=32)
    wanted = [asked([3] * 20, max_tokens=12), asked([4] * 31, max_tokens=1)]
    assert [len(r.token_ids) for r in replies(running, wanted)] == [12, 1]


def test_logits_that_are_not_finite_are_an_error(checkpoint: Any) -> None:
    model = load_model(checkpoint, device="cpu")
    model.embedding[7] = torch.inf
    sick, healthy = replies(new_scheduler(model), [asked([7, 1]), asked([5, 6])])
    assert sick.token_ids == ()
    assert "not finite" in (sick.events[0].error or "")
    assert healthy.events[-1].finish_reason is FinishReason.LENGTH


def test_a_listener_that_fails_ends_its_own_request_only(model: ParallelLlama) -> None:
    running, other = new_scheduler(model), RecordedEvents()

    def broken(event: TokenEvent) -> None:
        raise RuntimeError

    running.add(asked([5, 6]), broken)
    running.add(asked([7, 8]), other)
    running.step()
    running.step()
    assert (running.num_active, len(other.events)) == (1, 2)
