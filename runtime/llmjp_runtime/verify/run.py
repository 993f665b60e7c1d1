"""The comparison of `llmjp verify`: both models over the same texts, layer by layer.

Memory is bounded by one layer of each model in float32, the vocabulary's tables and the hidden
states, whatever the model's size: neither model is ever held whole. First the reference continues
every prompt greedily. Then one sweep takes all texts through both models, and every part of the
checkpoint also gets the reference's own input, so that a part which is wrong stands out alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812

from llmjp_runtime.executor.torch.batch import PrefillChunk, build_batch
from llmjp_runtime.executor.torch.checkpoint import ShardedCheckpoint
from llmjp_runtime.executor.torch.kv_cache import KVCache
from llmjp_runtime.executor.torch.loader import WeightLoader, resolve_device
from llmjp_runtime.executor.torch.model import build_rotary_table, normalize, select_rotary
from llmjp_runtime.verify.agreement import PartAgreement, Positions, TextAgreement, TokenErrors
from llmjp_runtime.verify.generation import continue_greedily
from llmjp_runtime.verify.limits import Precision
from llmjp_runtime.verify.memory import POSITIONS, require_room
from llmjp_runtime.verify.prompts import check_prompts
from llmjp_runtime.verify.ranges import WatchedCache, iterate_filled_ranges, watch_layer
from llmjp_runtime.verify.reference import Reference, new_history
from llmjp_runtime.verify.reference_config import require_same_model
from llmjp_runtime.verify.reference_files import ReferenceFiles
from llmjp_runtime.verify.report import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from llmjp_runtime.executor.torch.batch import Batch
    from llmjp_runtime.executor.torch.config import CheckpointConfig
    from llmjp_runtime.executor.torch.kv_cache import LayerCache
    from llmjp_runtime.executor.torch.model import Layer, Rotary
    from llmjp_runtime.verify.generation import Text
    from llmjp_runtime.verify.ranges import FilledRange
    from llmjp_runtime.verify.reference import ReferenceLayer

Hidden = tuple[torch.Tensor, torch.Tensor]
"""The checkpoint's own hidden states and the reference's, [T, H] each."""

_COMPARED = 3
"""Passes through a layer while comparing: the reference's, and the checkpoint's two."""


def measure(
    checkpoint: Path,
    reference: Path,
    prompts: Sequence[tuple[int, ...]],
    *,
    max_tokens: int = 16,
    end_ids: frozenset[int] = frozenset(),
    device: str = "auto",
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Measurement:
    """Measure how far a checkpoint is from the model it was made from.

    Args:
        checkpoint: folder with config.json and rank{N}.safetensors.
        reference: folder of the Hugging Face checkpoint.
        prompts: ids of each, at least one.
        max_tokens: of the greedy reply to each prompt, >= 1.
        end_ids: that end a reply.
        device: `auto`, `cpu` or `cuda[:N]`.
        on_progress: called with layers done and layers in all.

    Raises:
        ArtefactInvalid, UnsupportedModel: the checkpoint cannot be run; see `load_model`.
        ReferenceInvalid, ReferenceUnsupported: nor can the reference.
        TransformersMissing: transformers is not installed.
        DifferentModel: they are not of the same model.
        PromptsInvalid: no prompts, an id outside of the vocabulary, or one too long.
        OptionInvalid: no such device.
        NotEnoughMemory: with what is needed and what is free.
    """
    ours, theirs = ShardedCheckpoint.open(checkpoint), ReferenceFiles.open(reference)
    config = ours.config
    require_same_model(theirs.config, config, checkpoint / "config.json")
    check_prompts(prompts, config, max_tokens)
    place = resolve_device(device)
    weights = WeightLoader(ours, torch.float32, place)
    require_room(weights, theirs.config, [len(prompt) for prompt in prompts], max_tokens)
    sweeps = max_tokens - 1
    counter = _Counter(config.num_hidden_layers * (sweeps + _COMPARED), on_progress)
    model = Reference(theirs, place)
    texts = continue_greedily(
        model,
        prompts,
        max_tokens=max_tokens,
        end_ids=end_ids,
        on_layer=counter.add,
    )
    counter.go_to(config.num_hidden_layers * sweeps)
    return _compare_models(weights, model, texts, counter)


@dataclass(slots=True)
class _Counter:
    total: int
    on_progress: Callable[[int, int], None]
    done: int = 0

    def add(self, number: int = 1) -> None:
        self.go_to(self.done + number)

    def go_to(self, done: int) -> None:
        self.done = done
        self.on_progress(done, self.total)


@torch.inference_mode()
def _compare_models(
    weights: WeightLoader, reference: Reference, texts: Sequence[Text], counter: _Counter
) -> Measurement:
    config = weights.checkpoint.config
    runner = _Runner.of(weights, texts)
    theirs = reference.embed([text.ids for text in texts])
    ours = F.embedding(runner.step.input_ids, weights.load_embedding())
    parts = [PartAgreement.of("embedding", TokenErrors.of(ours, theirs))]
    ranges: list[FilledRange] = []
    for index in range(config.num_hidden_layers):
        layer, expected = weights.load_layer(index), reference.layer(index)
        found, filled, theirs = runner.compare(f"layer {index}", layer, expected, theirs)
        parts += found
        ranges += filled
        ours = runner.run_layer(layer, ours)
        counter.add(_COMPARED)
    agreements, head = _compare_heads(weights, reference, texts, (ours, theirs))
    return Measurement(
        precision=Precision.of(config, reference.files.dtypes),
        parts=(*parts, head),
        ranges=tuple(ranges),
        texts=tuple(agreements),
    )


def _compare_heads(
    weights: WeightLoader, reference: Reference, texts: Sequence[Text], hidden: Hidden
) -> tuple[list[TextAgreement], PartAgreement]:
    """Compare output layers, a few positions at a time: logits are the largest tensors of all."""
    theirs, final_norm, lm_head = (
        reference.head(),
        weights.load_final_norm(),
        weights.load_lm_head(),
    )
    next_ids = torch.tensor([i for text in texts for i in (*text.ids[1:], 0)])
    pieces, errors = [], []
    rows = zip(*(torch.split(x, POSITIONS) for x in (next_ids, *hidden)), strict=True)
    for follows, our_x, their_x in rows:
        expected = theirs(their_x)
        ours, given = (
            lm_head(normalize(x, final_norm, weights.checkpoint.config)) for x in (our_x, their_x)
        )
        pieces.append(Positions.of(follows.to(ours.device), ours, expected))
        errors.append(TokenErrors.of(given, expected))
    found, begin, agreements = Positions.joined(pieces), 0, []
    for text in texts:
        end = begin + len(text.ids)
        agreements.append(TextAgreement.of(text.num_prompt, found.rows(begin, end)))
        begin = end
    return agreements, PartAgreement.of("lm_head", *errors)


@dataclass(frozen=True, slots=True, eq=False)
class _Runner:
    """Runs single layers of the checkpoint over all texts, with the executor's own code."""

    config: CheckpointConfig
    lengths: tuple[int, ...]
    step: Batch
    """Every text is one piece of a prompt."""
    cache: KVCache
    """Cache of one layer; every layer overwrites it."""
    rotary: Rotary

    @classmethod
    def of(cls, weights: WeightLoader, texts: Sequence[Text]) -> _Runner:
        config, dtype, device = weights.checkpoint.config, weights.dtype, weights.device
        lengths = tuple(len(text.ids) for text in texts)
        cache = KVCache.allocate(
            replace(config, num_hidden_layers=1),
            num_slots=len(texts),
            max_length=max(lengths),
            dtype=dtype,
            device=device,
        )
        pieces = [
            PrefillChunk(slot=slot, start=0, ids=text.ids, needs_logits=True)
            for slot, text in enumerate(texts)
        ]
        step = build_batch([], pieces, cache, dtype)
        table = build_rotary_table(config, dtype).to(device)
        return cls(config, lengths, step, cache, select_rotary(table, step))

    def attend(self, layer: Layer, x: torch.Tensor, cache: LayerCache) -> torch.Tensor:
        return layer.attend(x, self.step, cache, rotary=self.rotary, config=self.config)

    def run_layer(self, layer: Layer, x: torch.Tensor) -> torch.Tensor:
        """Run the whole layer on the checkpoint's own hidden states."""
        x = x + self.attend(layer, x, self.cache.view_layer(0, layer.kv_scale))
        return x + layer.feed_forward(x, self.config)

    def compare(
        self, name: str, layer: Layer, expected: ReferenceLayer, x: torch.Tensor
    ) -> tuple[list[PartAgreement], list[FilledRange], torch.Tensor]:
        """Compare both halves of a layer on the reference's hidden states, and return its own."""
        layer = watch_layer(layer)
        cache = WatchedCache(self.cache.keys[0], self.cache.values[0], layer.kv_scale)
        wanted = expected.attend(x, self.lengths, [new_history() for _ in self.lengths])
        errors = TokenErrors.of(self.attend(layer, x, cache), wanted)
        attention = PartAgreement.of(f"{name} attention", errors)
        x = x + wanted
        wanted = expected.feed_forward(x)
        errors = TokenErrors.of(layer.feed_forward(x, self.config), wanted)
        mlp = PartAgreement.of(f"{name} mlp", errors)
        return [attention, mlp], list(iterate_filled_ranges(name, layer, cache)), x + wanted
