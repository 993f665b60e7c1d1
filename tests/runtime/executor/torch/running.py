"""Requests run to their end, by stepping an engine or by asking transformers."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import torch

from llmjp_runtime.executor.protocol import GenerationRequest, RecordedEvents, SamplingParams
from llmjp_runtime.executor.torch.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmjp_runtime.executor.torch.model import ParallelLlama

GREEDY = SamplingParams(max_tokens=24, temperature=0.0)
_numbers = count()


def request(
    prompt: Sequence[int], sampling: SamplingParams = GREEDY, *, log_probs: bool = False
) -> GenerationRequest:
    return GenerationRequest(
        request_id=f"r{next(_numbers)}",
        prompt_ids=tuple(prompt),
        sampling=sampling,
        log_probs=log_probs,
    )


def new_scheduler(model: ParallelLlama, **options: Any) -> Scheduler:
    return Scheduler(model, **{"max_batch_size": 8, "max_context": 128} | options)


def finish(running: Scheduler) -> None:
    while running.has_work:
        running.step()


def replies(running: Scheduler, requests: Sequence[GenerationRequest]) -> list[RecordedEvents]:
    recorded = [RecordedEvents() for _ in requests]
    for asked, events in zip(requests, recorded, strict=True):
        running.add(asked, events)
    finish(running)
    return recorded


def prompts(
    num: int, vocab_size: int = 211, *, shortest: int = 1, longest: int = 60
) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(shortest, longest + 1, (num,), generator=generator).tolist()
    return [torch.randint(vocab_size, (n,), generator=generator).tolist() for n in lengths]


@torch.no_grad()
def transformers_greedy(model: Any, prompt: Sequence[int], num_new: int) -> tuple[int, ...]:
    """No KV cache and no batch: the plainest reference there is."""
    ids = torch.tensor([list(prompt)])
    for _ in range(num_new):
        ids = torch.cat((ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)), dim=1)
    return tuple(ids[0, len(prompt) :].tolist())
