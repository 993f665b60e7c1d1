"""Unified checkpoints for vLLM and TensorRT-LLM's LLM API: Hugging Face's names, FP8 on request.

The result equals what `export_hf_checkpoint` of modelopt 0.37 writes for the same amax
(modelopt/torch/export/unified_export_hf.py): every linear layer has scales of its own, and all
scales are numbers without a dimension. Files are divided as the source's are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.judgement.model import parse_rotary_embedding
from llmjp_builder.contracts.spec import Kind
from llmjp_builder.convert.checkpoint import CONFIG, INDEX, read_checkpoint
from llmjp_builder.convert.conversion import CONVERTER_REVISION, Conversion
from llmjp_builder.convert.fp8 import Rounding
from llmjp_builder.convert.layout import Layout, check_options, resolve_dtype
from llmjp_builder.convert.plan_builder import CheckpointStyle, PlanBuilder
from llmjp_builder.convert.planner import FAMILIES, STORED_AS, check_coverage
from llmjp_builder.convert.splits import NoSplit, ScaleRule, SourcePart, TensorRule
from llmjp_builder.store.files import os_errors, read_json_object
from llmjp_builder.tokenizer import OPTIONAL, REQUIRED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from llmjp_builder.contracts.spec import LayoutOptions
    from llmjp_builder.convert.checkpoint import SourceCheckpoint
    from llmjp_builder.convert.conversion_plan import ConversionPlan
    from llmjp_builder.convert.model_config import ModelConfig

QUANT_CONFIG = "hf_quant_config.json"

UNIFIED = CheckpointStyle(
    weight_scale="weight_scale",
    scale_shape=(),
    rounding=Rounding.STORED_FIRST,
    metadata={"format": "pt"},  # transformers refuses files that do not say so
)

PRODUCER = {"name": "modelopt", "version": "0.37.0"}
"""Identifies the format, not the program: vLLM recognises the format by it."""

_FLOAT8 = {"dynamic": False, "num_bits": 8, "type": "float"}


def prepare_unified(source: Path, options: LayoutOptions) -> Conversion:
    """Plan the conversion to a unified checkpoint from the headers in `source`.

    Options about ranks mean nothing here: a unified checkpoint is not divided.

    Raises:
        BadInput: the checkpoint is damaged or does not fit its config.json.
        UnsupportedRequest: another architecture.
        InvalidSpec: FP8 keys and values without FP8 weights.
    """
    checkpoint = read_checkpoint(source)
    check_options(options)
    layout = Layout(
        dtype=resolve_dtype(options.dtype, checkpoint.config.stored_dtype),
        quantization=options.quantization,
        kv_cache=options.kv_cache,
    )
    planned, placed = _plan_files(checkpoint, layout)
    document = read_json_object(source / CONFIG)
    older = _spell_for_transformers_4(document, checkpoint.config)
    config = _render_config(document, checkpoint.config.architecture, layout) | older
    documents = {CONFIG: config}
    if options.quantization == "fp8":
        documents[QUANT_CONFIG] = _render_quant_config(layout)
    if INDEX in checkpoint.files:
        total = sum(file.size - len(file.header) for file in planned.files)
        documents[INDEX] = {"metadata": {"total_size": total}, "weight_map": placed}
    with os_errors(source):
        copied = tuple(name for name in (*REQUIRED, *OPTIONAL) if (source / name).exists())
    revision = f"{CONVERTER_REVISION}-rope" if older else CONVERTER_REVISION
    return Conversion(checkpoint, Kind.UNIFIED, layout, planned, documents, copied, revision)


def _plan_files(
    checkpoint: SourceCheckpoint, layout: Layout
) -> tuple[ConversionPlan, dict[str, str]]:
    """Return the plan, and the file of every tensor by the tensor's name."""
    config, tensors = checkpoint.config, checkpoint.tensors
    family = FAMILIES[config.architecture]
    ignored, duplicates = family.list_ignored(config), family.list_duplicates(config)
    rules = _list_rules(family.list_rules(config, layout, 0))
    check_coverage(tensors, rules, {*ignored, *duplicates}, checkpoint.folder)
    file_of = {rule.target: tensors[rule.target].file.name for rule in rules}
    scales = _list_scales(config, layout)
    scale_file = {scale: file_of[f"{scale.target.rpartition('.')[0]}.weight"] for scale in scales}
    draft = PlanBuilder(STORED_AS[layout.dtype], UNIFIED)
    placed: dict[str, str] = {}
    for name in sorted(set(file_of.values())):
        inside = [rule for rule in rules if file_of[rule.target] == name]
        beside = [scale for scale in scales if scale_file[scale] == name]
        targets = draft.add_file(name, inside, beside)
        placed |= dict.fromkeys(targets, name)
    return draft.build(tensors, equal=duplicates, ignored=ignored), placed


def _list_rules(sharded: Iterable[TensorRule]) -> list[TensorRule]:
    """List a rule for every source tensor, whole; each quantised one has a scale of its own."""
    parts = {part.source: (part.shape, rule.fp8_group) for rule in sharded for part in rule.parts}
    return [
        TensorRule(name, (SourcePart(name, shape, NoSplit()),), name if group else None)
        for name, (shape, group) in parts.items()
    ]


def _list_scales(config: ModelConfig, layout: Layout) -> list[ScaleRule]:
    family = FAMILIES[config.architecture]
    fp8, kv = layout.quantization == "fp8", layout.kv_cache == "fp8"
    linear = family.list_linear_modules(config) if fp8 else ()
    attention = family.list_attention_modules(config) if kv else ()
    return [
        *(ScaleRule(f"{module}.input_scale", (module,)) for module in linear),
        *(
            ScaleRule(f"{module}.{letter}_proj.{letter}_scale", (f"{module}.{letter}",), least=1.0)
            for module in attention
            for letter in "kv"
        ),
    ]


def _spell_for_transformers_4(document: dict[str, Any], config: ModelConfig) -> dict[str, Any]:
    """Return the rotary embedding under its older keys, where `rope_parameters` alone tells it.

    TensorRT-LLM 1.2.1 reads config.json with transformers 4, which does not know the newer key and
    would compute with a theta of 10000 and without scaling, silently.
    """
    known = {key: value for key, value in document.items() if key != "rope_parameters"}
    rotary = parse_rotary_embedding(known, CONFIG)
    if (rotary.theta, rotary.scaling) == (config.rope_theta, config.scaled_rope):
        return {}
    return {"rope_theta": config.rope_theta, "rope_scaling": config.rope_scaling}


def _render_config(document: dict[str, Any], architecture: str, layout: Layout) -> dict[str, Any]:
    """Return the source's config.json with the new dtype and, for FP8, what loaders need."""
    keys = [key for key in ("dtype", "torch_dtype") if key in document] or ["torch_dtype"]
    changed = document | dict.fromkeys(keys, layout.dtype)
    if document.get("architectures") != [architecture]:
        changed |= {"architectures": [architecture]}  # others look a model up by this spelling
    if layout.quantization == "none":
        return changed
    described: dict[str, Any] = {
        "config_groups": {
            "group_0": {
                "input_activations": _FLOAT8,
                "weights": _FLOAT8,
                "targets": ["Linear"],
            }
        },
        "ignore": ["lm_head"],
        "quant_algo": "FP8",
        "producer": PRODUCER,
        "quant_method": "modelopt",
    }
    if layout.kv_cache == "fp8":
        described["kv_cache_scheme"] = _FLOAT8
    return changed | {"quantization_config": described}


def _render_quant_config(layout: Layout) -> dict[str, Any]:
    return {
        "producer": PRODUCER,
        "quantization": {
            "quant_algo": "FP8",
            "kv_cache_quant_algo": "FP8" if layout.kv_cache == "fp8" else None,
            "exclude_modules": ["lm_head"],
        },
    }
