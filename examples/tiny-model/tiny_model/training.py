"""Training: batches of one padded length, cross entropy on the replies, AdamW with cosine decay."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transformers import LlamaForCausalLM

    from .encoding import Encoded
    from .qa import Sample

IGNORED = -100
LENGTH_STEP = 16
"""Sequences are padded to a multiple of this, so that few shapes occur."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What besides data and seed decides the result."""

    steps: int = 4000
    batch: int = 1024
    """Conversations per step."""
    peak_rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 0.3
    attention_dropout: float = 0.1
    """While training only: the stored config has none, like the llm-jp-3 models."""
    clip: float = 1.0
    min_per_kind: int = 1500
    """Kinds with fewer samples are repeated up to about this many per epoch."""
    seed: int = 3


def epoch_of(samples: Sequence[Sample], data: Sequence[Encoded], recipe: Recipe) -> list[Encoded]:
    """The data of one epoch: small kinds several times, at most eight times."""
    sizes: dict[str, int] = defaultdict(int)
    for sample in samples:
        sizes[sample.kind] += 1
    repeats = {k: min(8, max(1, round(recipe.min_per_kind / n))) for k, n in sizes.items()}
    return [
        entry
        for sample, entry in zip(samples, data, strict=True)
        for _ in range(repeats[sample.kind])
    ]


def _padded(entries: Sequence[Encoded], width: int) -> tuple[Tensor, Tensor]:
    """Input ids and labels, both `[n, width]`; a label is the id that comes next in a reply."""
    ids = torch.zeros(len(entries), width, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for row, entry in enumerate(entries):
        start, end = len(entry.prompt), len(entry.prompt) + len(entry.reply)
        ids[row, :end] = torch.tensor(entry.prompt + entry.reply)
        labels[row, start - 1 : end - 1] = torch.tensor(entry.reply)
    return ids, labels


def _by_width(data: Sequence[Encoded], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """The whole data on the device, one pair of ids and labels for each padded length."""
    groups: dict[int, list[Encoded]] = defaultdict(list)
    for entry in data:
        length = len(entry.prompt) + len(entry.reply)
        groups[-(-length // LENGTH_STEP) * LENGTH_STEP].append(entry)
    padded = (_padded(entries, width) for width, entries in sorted(groups.items()))
    return [(ids.to(device), labels.to(device)) for ids, labels in padded]


def _endless(
    data: Sequence[Encoded], recipe: Recipe, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one padded length each, epoch after epoch, every epoch in a new order."""
    groups = _by_width(data, device)
    rng = torch.Generator().manual_seed(recipe.seed)
    while True:
        batches = [
            (ids, labels, rows.to(device))
            for ids, labels in groups
            for rows in torch.split(torch.randperm(len(ids), generator=rng), recipe.batch)
        ]
        for index in torch.randperm(len(batches), generator=rng).tolist():
            ids, labels, rows = batches[index]
            yield ids[rows], labels[rows]


def _rate(step: int, recipe: Recipe) -> float:
    """The learning rate's share of its peak: linear warm-up, then half a cosine to zero."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _optimizer(model: LlamaForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        groups, lr=recipe.peak_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )


def _loss(model: LlamaForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    # Padding is to the right and attention is causal: no mask is needed. The head runs on replies.
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    asked = labels != IGNORED
    return cross_entropy(model.lm_head(hidden[asked]).float(), labels[asked])


def train(
    model: LlamaForCausalLM,
    data: Sequence[Encoded],
    recipe: Recipe,
    on_step: Callable[[int, float], None],
) -> None:
    """Trains `model` in place; `on_step` gets the number of steps done and the loss, now and then.

    `data` is one epoch, see `epoch_of`.
    """
    optimizer = _optimizer(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe))
    device = model.device
    batches = _endless(data, recipe, device)
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = recipe.attention_dropout
    model.train()
    for step, (ids, labels) in zip(range(1, recipe.steps + 1), batches, strict=False):
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = _loss(model, ids, labels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        schedule.step()
        if step % 20 == 0 or step == recipe.steps:
            on_step(step, loss.item())
    model.eval()
