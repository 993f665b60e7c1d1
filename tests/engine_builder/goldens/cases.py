"""The checkpoints that our goldens are made of, drawn from a hash: the same numbers for ever."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.engine_builder.checkpoints import Array, Tiny, write_checkpoint
from tests.engine_builder.goldens.reference import ReferenceOptions

FOLDER = Path(__file__).parent / "data"

LINEAR = (
    *(f"self_attn.{letter}_proj" for letter in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
MODEL = Tiny(hidden=32, inter=64, heads=4, kv_heads=2, head_size=16, vocab=21)
SCALED_ROPE = {
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}


@dataclass(frozen=True, kw_only=True)
class GoldenCase:
    """A model and the options of its conversion."""

    model: Tiny = MODEL
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `LayoutOptions`, except what follows from `fp8` and `fp8_kv_cache`."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Of the source's config.json, instead of the model's own."""
    dtype: str = "bfloat16"
    """What `options` come to."""
    fp8: bool = False
    fp8_kv_cache: bool = False

    def write_source(self, folder: Path) -> Path:
        weights = {
            name: _draw(name, shape, self.model) for name, shape in self.model.shapes().items()
        }
        write_checkpoint(folder, self.model, weights)
        (folder / "config.json").write_text(json.dumps({**self.model.config(), **self.config}))
        return folder

    def prepare_options(self) -> dict[str, Any]:
        quantized = {"quantization": "fp8", "kv_cache": "fp8" if self.fp8_kv_cache else "auto"}
        return {**self.options, **(quantized if self.fp8 else {})}

    def reference_options(self) -> ReferenceOptions:
        options = {"pad_intermediate": 1, **self.options, "dtype": self.dtype}
        return ReferenceOptions(
            amax=self.amax() if self.fp8 else None,
            fp8_kv_cache=self.fp8_kv_cache,
            **options,
        )

    def amax(self) -> dict[str, Any]:
        """Return activations of any size; keys and values on both sides of 448, the limit."""
        layers = [f"model.layers.{i}" for i in range(self.model.layers)]
        names = [f"{layer}.{name}" for layer in layers for name in LINEAR]
        return {
            "activation_amax": {name: 1 + _number(name) % 97 / 8 for name in names},
            "kv_amax": {
                f"{layer}.self_attn": {key: 1.0 + _number(layer + key) % 1400 for key in "kv"}
                for layer in layers
            },
        }


def _ranks(tp: int = 1, pp: int = 1, **others: Any) -> dict[str, Any]:
    return {"tensor_parallel": tp, "pipeline_parallel": pp, **others}


CASES = {
    "bf16_tp1": GoldenCase(config=SCALED_ROPE),
    "bf16_tp2": GoldenCase(options=_ranks(2)),
    "bf16_tp4_repeated_kv_heads": GoldenCase(options=_ranks(4)),
    "bf16_pp2_uneven": GoldenCase(model=replace(MODEL, layers=3), options=_ranks(pp=2)),
    "bf16_tp2_pp2": GoldenCase(options=_ranks(2, 2)),
    "bf16_tp2_embedding_rows": GoldenCase(options=_ranks(2, embedding_sharding_dim=0)),
    "bf16_tp2_embedding_columns": GoldenCase(options=_ranks(2, embedding_sharding_dim=1)),
    "bf16_tp2_tied": GoldenCase(model=replace(MODEL, tied=True), options=_ranks(2)),
    "bf16_tp2_padded": GoldenCase(
        model=replace(MODEL, inter=48), options=_ranks(2, pad_intermediate=32)
    ),
    "fp16_tp2_from_fp32": GoldenCase(
        model=replace(MODEL, dtype="F32"), options=_ranks(2), dtype="float16"
    ),
    "bf16_tp1_from_fp32": GoldenCase(
        model=replace(MODEL, dtype="F32"), options={"dtype": "bfloat16"}
    ),
    "fp8_tp1": GoldenCase(fp8=True, fp8_kv_cache=True),
    "fp8_tp2": GoldenCase(options=_ranks(2), fp8=True, fp8_kv_cache=True),
    "fp8_tp2_pp2_bf16_kv_cache": GoldenCase(options=_ranks(2, 2), fp8=True),
    "fp8_tp2_padded": GoldenCase(
        model=replace(MODEL, inter=48),
        options=_ranks(2, pad_intermediate=16),
        fp8=True,
        fp8_kv_cache=True,
    ),
}


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


def _draw(name: str, shape: tuple[int, ...], model: Tiny) -> Array:
    """Return floats of either sign with magnitudes from 2^-7 to 2^7, every fraction alike."""
    item = 4 if model.dtype == "F32" else 2
    data = hashlib.shake_256(name.encode()).digest(item * math.prod(shape))
    bits: Array = np.frombuffer(data, f"<u{item}").reshape(shape).copy()
    sign_and_fraction, shift = (0x807FFFFF, 23) if item == 4 else (0x807F, 7)
    exponent = 120 + (bits >> shift) % 15
    bits = (bits & sign_and_fraction) | (exponent << shift).astype(bits.dtype)
    return bits.view(np.float32) if item == 4 else bits
