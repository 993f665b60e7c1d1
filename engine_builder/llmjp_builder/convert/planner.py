"""Planning of conversions: every output byte is accounted for before one is read. Pure.

The plan is the header: shapes, offsets and sizes of all rank files follow from the source's
headers, so execution writes headers first and streams the rest; a dry run is the plan itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BadTensors
from llmjp_builder.convert.families import llama
from llmjp_builder.convert.fp8 import Rounding
from llmjp_builder.convert.plan_builder import CheckpointStyle, PlanBuilder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmjp_builder.convert.conversion_plan import ConversionPlan
    from llmjp_builder.convert.header import TensorInfo
    from llmjp_builder.convert.layout import Layout
    from llmjp_builder.convert.model_config import ModelConfig
    from llmjp_builder.convert.splits import TensorRule

FAMILIES = {"LlamaForCausalLM": llama}
"""Modules of rules, by architecture."""

STORED_AS = {"bfloat16": "BF16", "float16": "F16"}
"""safetensors' name of a layout's dtype."""

RANKS_STYLE = CheckpointStyle(
    weight_scale="weights_scaling_factor", scale_shape=(1,), rounding=Rounding.DIRECT
)
"""TensorRT-LLM checkpoints."""

_CONVERTIBLE = ("BF16", "F16", "F32")


def plan_conversion(
    tensors: Mapping[str, TensorInfo], config: ModelConfig, layout: Layout, folder: Path
) -> ConversionPlan:
    """Plan how to divide `tensors` as `layout` says.

    Args:
        tensors: of the source.
        config: of the source.
        layout: checked against `config`.
        folder: of the source, for messages.

    Raises:
        BadTensors: a tensor is missing, unknown, or has an unexpected shape or dtype.
    """
    family = FAMILIES[config.architecture]
    stages = [family.list_rules(config, layout, stage) for stage in range(layout.pipeline_parallel)]
    every_rule = [rule for stage in stages for rule in stage]
    ignored, duplicates = family.list_ignored(config), family.list_duplicates(config)
    check_coverage(tensors, every_rule, {*ignored, *duplicates}, folder)
    draft = PlanBuilder(STORED_AS[layout.dtype], RANKS_STYLE)
    world = layout.tensor_parallel
    for stage, rules in enumerate(stages):
        scales = family.list_scales(config, layout, stage)
        for rank in range(world):
            name = f"rank{len(draft.files)}.safetensors"
            draft.add_file(name, rules, scales, world=world, rank=rank)
    return draft.build(tensors, equal=duplicates, ignored=ignored)


def check_coverage(
    tensors: Mapping[str, TensorInfo], rules: list[TensorRule], dropped: set[str], folder: Path
) -> None:
    """Require every tensor that rules need, and no other but those dropped by name.

    Raises:
        BadTensors: the message names the first offending tensor.
    """
    parts = {part.source: part for rule in rules for part in rule.parts}
    if missing := [name for name in parts if name not in tensors]:
        raise BadTensors(f"{folder}: {_describe_tensors(missing)} missing; config.json requires it")
    if extra := [name for name in tensors if name not in parts and name not in dropped]:
        raise BadTensors(
            f"{tensors[extra[0]].file}: {_describe_tensors(extra)} unknown; "
            "config.json describes a model without it"
        )
    for name, part in parts.items():
        tensor = tensors[name]
        if tensor.dtype not in _CONVERTIBLE:
            raise BadTensors(
                f"{tensor.file}: {name}: dtype {tensor.dtype}; "
                f"expected one of {', '.join(_CONVERTIBLE)}"
            )
        if tensor.shape != part.shape:
            raise BadTensors(
                f"{tensor.file}: {name}: shape {list(tensor.shape)}; "
                f"config.json implies {list(part.shape)}"
            )


def _describe_tensors(names: list[str]) -> str:
    """Name the first tensor and the number of others, with the verb."""
    more = f" and {len(names) - 1} more tensor(s) are" if len(names) > 1 else " is"
    return f"tensor {names[0]}{more}"
