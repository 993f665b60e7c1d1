"""Checkpoints that TensorRT-LLM's own converter wrote, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.conversion import convert_checkpoint, prepare_ranks
from llmjp_builder.convert.header import TensorInfo, read_header
from llmjp_builder.progress import Reporter
from tests.engine_builder.goldens.reference import Reference, ReferenceOptions
from tests.engine_builder.goldens.upstream import list_differences
from tests.support.shared import shared

CASES = [
    "bf16_tp1",
    "bf16_tp2",
    "bf16_tp4_kvdup",
    "bf16_tp2pp2",
    "bf16_pp2_oddlayers",
    "bf16_tp2_mha",
    "bf16_tp2_tied",
    "bf16_tp2_headdim32",
    "bf16_tp2_parallel_emb0",
    "bf16_tp2_parallel_emb1",
    "bf16_tp2_sharded",
    "bf16_from_fp32_tp2",
    "fp16_from_fp32_auto_tp2",
]
OPTIONAL = {"embed_positions", "embed_positions_for_gpt_attention", "rotary_inv_freq"}
"""RoPE tables that every loader can do without."""


def converted(case: str, out: Path) -> tuple[Path, dict[str, Any]]:
    """Our conversion with the golden's settings, and those settings."""
    golden = shared("trtllm-golden")
    settings = json.loads((golden / "index.json").read_text())[case]
    parallel = settings["convert_kwargs"].get("use_parallel_embedding")
    conversion = prepare_ranks(
        golden / case / "hf",
        LayoutOptions(
            dtype=settings["dtype"],
            tensor_parallel=settings["tp"],
            pipeline_parallel=settings["pp"],
            embedding_sharding_dim=settings["convert_kwargs"]["embedding_sharding_dim"]
            if parallel
            else None,
        ),
    )
    convert_checkpoint(conversion, out, Reporter(None))
    return golden / case / "ckpt", settings


def contents(path: Path, tensor: TensorInfo) -> tuple[str, tuple[int, ...], bytes]:
    with path.open("rb") as file:
        file.seek(tensor.offset)
        return tensor.dtype, tensor.shape, file.read(tensor.size)


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_is_the_same(case: str, tmp_path: Path) -> None:
    golden, settings = converted(case, tmp_path / "out")
    names = [f"rank{i}.safetensors" for i in range(settings["tp"] * settings["pp"])]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["config.json", *names]
    for name in names:
        ours, theirs = read_header(tmp_path / "out" / name), read_header(golden / name)
        assert ours.keys() == theirs.keys() - OPTIONAL
        for tensor in ours:
            assert contents(tmp_path / "out" / name, ours[tensor]) == contents(
                golden / name, theirs[tensor]
            ), f"{name}: {tensor}"


@pytest.mark.parametrize("case", CASES)
def test_config_says_what_theirs_says(case: str, tmp_path: Path) -> None:
    golden, _ = converted(case, tmp_path / "out")
    ours = json.loads((tmp_path / "out" / "config.json").read_text())
    theirs = json.loads((golden / "config.json").read_text())
    assert not list_differences(ours, theirs)


@pytest.mark.parametrize("case", CASES)
def test_the_reference_of_our_goldens_is_right(case: str, tmp_path: Path) -> None:
    golden = shared("trtllm-golden") / case
    settings = json.loads((golden.parent / "index.json").read_text())[case]
    theirs = json.loads((golden / "ckpt" / "config.json").read_text())
    parallel = settings["convert_kwargs"].get("use_parallel_embedding")
    options = ReferenceOptions(
        dtype=theirs["dtype"],
        tensor_parallel=settings["tp"],
        pipeline_parallel=settings["pp"],
        embedding_sharding_dim=settings["convert_kwargs"]["embedding_sharding_dim"]
        if parallel
        else None,
    )
    reference = Reference(golden / "hf", options)
    assert not list_differences(reference.document(), theirs)
    for rank, tensors in enumerate(reference.ranks()):
        expected = load_file(golden / "ckpt" / f"rank{rank}.safetensors")
        assert tensors.keys() == expected.keys() - OPTIONAL
        assert all(torch.equal(tensors[name], expected[name]) for name in tensors)


def test_the_library_opens_what_we_write(tmp_path: Path) -> None:
    converted("bf16_tp2", tmp_path / "out")
    with safe_open(tmp_path / "out" / "rank1.safetensors", "pt") as file:
        assert list(file.get_tensor("lm_head.weight").shape) == [51, 64]
    assert np.all(
        [t.offset % 8 == 0 for t in read_header(tmp_path / "out" / "rank1.safetensors").values()]
    )
