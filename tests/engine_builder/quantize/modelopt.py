"""What NVIDIA's modelopt makes of small models: one subprocess for all of them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine_builder.checkpoints import TORCH_NAME, Array, Tiny, write_checkpoint
from tests.support.shared import ROOT

LAYOUTS = ((1, 1), (2, 1), (4, 1), (1, 2), (2, 2))
"""Tensor and pipeline parallel."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, and how it is quantised and divided."""

    model: Tiny
    dtype: str = "bfloat16"
    """To convert to."""
    kv_cache: bool = True
    layouts: tuple[tuple[int, int], ...] = ((2, 1),)
    shards: int = 1
    louder: float = 1.0
    """Factor on the weights of keys and values: large ones have KV scales above 1."""

    def weights(self) -> dict[str, Array]:
        generator = np.random.default_rng(7)
        found = {}
        for name, shape in self.model.shapes().items():
            values = generator.normal(1.0 if "norm" in name else 0.0, 0.3, shape)
            if "k_proj" in name or "v_proj" in name:
                values *= self.louder
            found[name] = stored(values.astype(np.float32), self.model.dtype)
        return found


def stored(values: Array, dtype: str) -> Array:
    """The bits of BF16 (cut off, not rounded), or the values of another type."""
    if dtype == "BF16":
        bits: Array = (values.view(np.uint32) >> 16).astype(np.uint16)
        return bits
    return values.astype({"F16": np.float16, "F32": np.float32}[dtype])


def _gqa(**fields: Any) -> Tiny:
    defaults = {"hidden": 32, "inter": 48, "heads": 4, "kv_heads": 2, "head_size": 16, "vocab": 21}
    return Tiny(**(defaults | fields))


def _drawn(seed: int) -> Case:
    """Any shape that our converter takes at some layout."""
    draw = random.Random(seed)
    kv_heads, group = draw.choice([1, 2, 4]), draw.choice([1, 2, 4])
    model = Tiny(
        hidden=16 * draw.randint(1, 4),
        inter=8 * draw.randint(1, 12),
        layers=draw.choice([2, 4]),
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_size=draw.choice([16, 32]),
        vocab=draw.randint(9, 90),
        tied=draw.random() < 0.3,
        dtype=draw.choice(["BF16", "F32"]),
    )
    possible = tuple(
        (tp, pp)
        for tp, pp in LAYOUTS
        if not model.heads % tp and not model.inter % tp and not model.layers % pp
    )
    kv_cache, shards = draw.random() < 0.5, draw.choice([1, 3])
    return Case(model=model, kv_cache=kv_cache, shards=shards, layouts=possible)


CASES = {
    "grouped queries, fewer kv heads than ranks": Case(model=_gqa(), layouts=LAYOUTS),
    "every head its own keys": Case(model=_gqa(kv_heads=4), kv_cache=False),
    "head size of its own": Case(model=_gqa(head_size=32)),
    "tied embeddings, odd vocabulary": Case(model=_gqa(tied=True, vocab=33), layouts=((4, 1),)),
    "float16": Case(model=_gqa(dtype="F16"), dtype="float16"),
    "float32 made bfloat16": Case(model=_gqa(dtype="F32")),
    "loud keys and values": Case(model=_gqa(), louder=500.0),
    "loud, no kv cache": Case(model=_gqa(), louder=500.0, kv_cache=False),
    "shards": Case(model=_gqa(layers=4), layouts=((2, 2),), shards=3),
    **{f"drawn {seed}": _drawn(seed) for seed in range(6)},
}


def require_modelopt() -> Path:
    """The folder that scripts/install-modelopt.sh made or found; skips the test without it."""
    script = ROOT / "scripts" / "install-modelopt.sh"
    found = subprocess.run([script], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"modelopt cannot be installed: {found.stderr.strip()[-200:]}")
    return Path(found.stdout.strip())


def export_all(folder: Path) -> Path:
    """`folder` with a folder for each case: `hf`, `amax.json`, `unified`, and `tp{N}pp{M}`."""
    requests = [_request(folder / name, case) for name, case in CASES.items()]
    program = ROOT / "tests" / "support" / "modelopt_export.py"
    ran = subprocess.run(
        [sys.executable, program],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(require_modelopt()), "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return folder


def _request(folder: Path, case: Case) -> dict[str, Any]:
    write_checkpoint(folder / "hf", case.model, case.weights(), shards=case.shards)
    generator = np.random.default_rng(11)
    ids = generator.integers(0, case.model.vocab, (3, 17))
    ranks = [{"out": str(folder / f"tp{tp}pp{pp}"), "tp": tp, "pp": pp} for tp, pp in case.layouts]
    assert case.dtype in TORCH_NAME.values()
    return {
        "source": str(folder / "hf"),
        "dtype": case.dtype,
        "calibration": ids.tolist(),
        "kv_cache": case.kv_cache,
        "amax": str(folder / "amax.json"),
        "exports": [*ranks, {"out": str(folder / "unified")}],
    }
