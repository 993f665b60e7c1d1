"""Training: batches of one padded length, cross entropy on the replies, AdamW with cosine decay."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .resuming import Training, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transformers import LlamaForCausalLM

    from .encoding import Encoded
    from .qa import Sample
    from .resuming import StateFile

IGNORED = -100
LENGTH_STEP = 16
LONG_STEP = 64
LONG = 128
"""Sequences are padded to a multiple of the first, from `LONG` on to one of the second, so that
few shapes occur and few batches are small."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What besides data and seed decides the result."""

    steps: int = 4500
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
        unit = LENGTH_STEP if length <= LONG else LONG_STEP
        groups[-(-length // unit) * unit].append(entry)
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
    *,
    kept: StateFile | None = None,
) -> None:
    """Trains `model` in place.

    Args:
        model: With its first weights.
        data: One epoch, see `epoch_of`.
        recipe: The settings.
        on_step: Gets the number of steps done and the loss, now and then.
        kept: Where to keep the state. One found there is gone on from: the weights come out as if
            the training had never stopped.

    Raises:
        StateUnusable: The state found is damaged or of another training.
    """
    optimizer = _optimizer(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe))
    training = Training(model, optimizer, schedule)
    owner = fingerprint(data, recipe) if kept else ""
    done = kept.restore(training, owner) if kept else 0
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = recipe.attention_dropout
    model.train()
    batches = islice(_endless(data, recipe, model.device), done, recipe.steps)
    for step, (ids, labels) in enumerate(batches, done + 1):
        loss = _one_step(training, ids, labels, recipe)
        if step % 20 == 0 or step == recipe.steps:
            on_step(step, loss.item())
        if kept and step % kept.every == 0:
            kept.save(training, step, owner)
    model.eval()


def _one_step(training: Training, ids: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    device = training.model.device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        loss = _loss(training.model, ids, labels)
    training.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(training.model.parameters(), recipe.clip)
    training.optimizer.step()
    training.schedule.step()
    return loss.detach()
