"""Parameter counts, and the bytes that a conversion writes, from a model's shape alone. Pure.

The rules are the converter's own (`convert.families`), so the two cannot differ. Names and element
types of FP8 scales are repeated here, because `convert.plan_builder` needs numpy, which planning
must not. Tests hold the two equal, byte for byte, over random shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.convert.families import llama
from llmjp_builder.convert.header import ITEM_BYTES, NewTensor, render_header
from llmjp_builder.convert.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_builder.convert.model_config import ModelConfig

FAMILIES = {"LlamaForCausalLM": llama}
"""As in `convert.planner`."""

STORED_AS = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
"""safetensors' names of element types."""

_FP8, _SCALE = "F8_E4M3", "F32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Parameter counts of a model."""

    embedding: int
    """Embedding table and output projection; counted once where they are tied."""
    non_embedding: int
    per_layer: int
    """The part of `non_embedding` in one decoder layer."""
    card_embedding: int | None = None
    """The model card's count, which has too few rows."""

    @property
    def total(self) -> int:
        """All parameters that a checkpoint holds."""
        return self.embedding + self.non_embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSize:
    """Size of one rank's file."""

    weights_bytes: int
    """The tensors alone: what a GPU has to hold."""
    file_bytes: int
    """The whole file, header included."""


def count_parameters(config: ModelConfig, card_embedding: int | None = None) -> Parameters:
    """Count the parameters in the tensors that a conversion reads."""
    family = FAMILIES[config.architecture]
    rules = family.list_rules(config, Layout(dtype="bfloat16"), 0)
    counts = {part.source: math.prod(part.shape) for rule in rules for part in rule.parts}
    embedding = sum(counts.get(name, 0) for name in (family.EMBEDDING, family.HEAD))
    return Parameters(
        embedding=embedding,
        non_embedding=sum(counts.values()) - embedding,
        per_layer=sum(n for name, n in counts.items() if name.startswith("model.layers.0.")),
        card_embedding=card_embedding,
    )


def size_ranks(config: ModelConfig, layout: Layout) -> tuple[RankSize, ...]:
    """Return the size of each file that a conversion to `layout` writes, by rank.

    Ranks of one pipeline stage have the same shapes: every way to divide a tensor fills up the last
    part (`convert.splits`).
    """
    found: list[RankSize] = []
    for stage in range(layout.pipeline_parallel):
        tensors = tuple(_list_tensors(config, layout, stage))
        header, _ = render_header(tensors)
        size = sum(tensor.size for tensor in tensors)
        found += [
            RankSize(weights_bytes=size, file_bytes=len(header) + size)
        ] * layout.tensor_parallel
    return tuple(found)


def estimate_source_bytes(config: ModelConfig) -> int:
    """Estimate the bytes of the Hugging Face checkpoint; 16-bit unless config.json says more."""
    item = ITEM_BYTES[STORED_AS[config.stored_dtype or "float16"]]
    return count_parameters(config).total * item


def _list_tensors(config: ModelConfig, layout: Layout, stage: int) -> Iterator[NewTensor]:
    family, world = FAMILIES[config.architecture], layout.tensor_parallel
    for rule in family.list_rules(config, layout, stage):
        stored = _FP8 if rule.fp8_group else STORED_AS[layout.dtype]
        yield NewTensor(rule.target, stored, rule.compute_shape(world, 0))
        if rule.fp8_group:
            scale = f"{rule.target.removesuffix('weight')}weights_scaling_factor"
            yield NewTensor(scale, _SCALE, (1,))
    for number in family.list_scales(config, layout, stage):
        yield NewTensor(number.target, _SCALE, (1,))
