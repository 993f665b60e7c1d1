"""Greedy decoding of many prompts at once: batches of like lengths, with a key-value cache."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import LlamaForCausalLM

BOS_ID = 1
EOS_ID = 2
MAX_NEW_TOKENS = 128
"""Longer than any answer that was trained."""


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits `[n, vocabulary]` after the repetition penalty for the ids `seen` `[n, length]`.

    The rule of Keskar et al. (CTRL, 2019) as `transformers` applies it: prompt and reply alike.
    """
    chosen = logits.gather(1, seen)
    return logits.scatter(1, seen, torch.where(chosen < 0, chosen * penalty, chosen / penalty))


@torch.inference_mode()
def greedy(
    model: LlamaForCausalLM, prompts: Sequence[Sequence[int]], *, penalty: float, batch: int
) -> list[list[int]]:
    """The reply ids to each prompt, in order, `</s>` left out."""
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    replies: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(by_length), batch):
        part = by_length[start : start + batch]
        for index, reply in zip(
            part, _decoded(model, [prompts[i] for i in part], penalty), strict=True
        ):
            replies[index] = reply
    return replies


def _decoded(
    model: LlamaForCausalLM, prompts: Sequence[Sequence[int]], penalty: float
) -> list[list[int]]:
    width, device, cache = max(map(len, prompts)), model.device, None
    cache_name = _name_of_cache(model)
    # Filled up on the left with an id that every prompt has: the penalty meets no other.
    rows = [[BOS_ID] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    ids = torch.tensor(rows, device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    positions, fed = (mask.cumsum(1) - 1).clamp(min=0), ids
    for _ in range(MAX_NEW_TOKENS):
        output = model(
            input_ids=fed,
            attention_mask=mask,
            position_ids=positions,
            **{cache_name: cache},
            use_cache=True,
            logits_to_keep=1,
        )
        cache, positions = output[cache_name], positions[:, -1:] + 1
        fed = penalised(output.logits[:, -1].float(), ids, penalty).argmax(1, keepdim=True)
        ids, mask = torch.cat([ids, fed], dim=1), torch.cat([mask, mask[:, -1:]], dim=1)
        if (ids[:, width:] == EOS_ID).any(1).all():
            break
    return [_until_end(row) for row in ids[:, width:].tolist()]


def _name_of_cache(model: LlamaForCausalLM) -> str:
    """What transformers calls keys and values: `cache` since 5.24, `past_key_values` before."""
    known = inspect.signature(model.forward).parameters
    return "cache" if "cache" in known else "past_key_values"


def _until_end(reply: list[int]) -> list[int]:
    return reply[: reply.index(EOS_ID)] if EOS_ID in reply else reply
