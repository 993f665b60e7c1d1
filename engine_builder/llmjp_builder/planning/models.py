"""Models to plan for, and the shapes of the llm-jp-3 family as literals. Pure.

Where the shapes come from (config.json on huggingface.co unless said):
13b: llm-jp/llm-jp-3-13b; 172b: llm-jp/llm-jp-3-172b-alpha2; 3.7b: llm-jp/llm-jp-3-3.7b-instruct2;
440m: llm-jp/llm-jp-3-440m-instruct3; 1.8b: a fine-tune of llm-jp/llm-jp-3-1.8b-instruct that keeps
its config; 150m, 980m, 7.2b: megatron_configs of github.com/llm-jp/instruct3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import InvalidSpec
from llmjp_builder.convert.model_config import ModelConfig, parse_model_config

if TYPE_CHECKING:
    from collections.abc import Mapping

_CARD_ROWS = 99487
"""The model card counts an embedding table as this many rows; real ones have 99584 or 99840."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """A model to plan for; everything is known without its weights."""

    name: str
    """For display: a folder, or the repository that a size is named after."""
    config: ModelConfig
    source_bytes: int | None = None
    """Size of the checkpoint's files; None where they are missing and their size is estimated."""
    card_embedding: int | None = None
    """Embedding parameters as the model card counts them; None where it is not known."""


@dataclass(frozen=True, slots=True)
class _Shape:
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int = 99584
    """The tokenizer's 99574 entries, padded to 128 x the tensor parallelism of the training."""
    on_card: bool = False
    """True where the model card lists its numbers of parameters."""


_FAMILY: Mapping[str, _Shape] = {
    "150m": _Shape(512, 2048, 12, 8, 8),
    "440m": _Shape(1024, 3584, 16, 8, 8),
    "980m": _Shape(1536, 5376, 20, 8, 8),
    "1.8b": _Shape(2048, 7168, 24, 16, 16, on_card=True),
    "3.7b": _Shape(3072, 8192, 28, 24, 24, on_card=True),
    "7.2b": _Shape(4096, 11008, 32, 32, 32),
    "13b": _Shape(5120, 13824, 40, 40, 40, on_card=True),
    "172b": _Shape(12288, 38464, 96, 96, 16, vocab=99840, on_card=True),
}

SIZES = tuple(_FAMILY)
"""Sizes of the dense llm-jp-3 models, smallest first."""


def find_model_by_size(size: str) -> PlannedModel:
    """Return the llm-jp-3 model of this size, such as `13b`.

    Raises:
        InvalidSpec: no llm-jp-3 model has this size.
    """
    shape = _FAMILY.get(size.lower())
    if shape is None:
        raise InvalidSpec(f"size {size}: unknown; the llm-jp-3 sizes are {', '.join(SIZES)}")
    name = f"llm-jp-3-{size.lower()}"
    return PlannedModel(
        name=name,
        config=parse_model_config(_render_config(shape), name),
        card_embedding=2 * shape.hidden * _CARD_ROWS if shape.on_card else None,
    )


def _render_config(shape: _Shape) -> dict[str, object]:
    """Return config.json as on Hugging Face; all models share everything that is not a shape."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": 4096,
        "mlp_bias": False,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": 10000,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": shape.vocab,
    }
