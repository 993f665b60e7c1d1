"""FP8 checkpoints that modelopt wrote beside TensorRT-LLM, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.amax import Amax
from llmjp_builder.convert.conversion import convert_checkpoint, prepare_ranks, write_conversion
from llmjp_builder.convert.families.llama import LINEAR
from llmjp_builder.progress import Reporter
from llmjp_builder.quantize.activations import read_given_amax
from tests.engine_builder.checkpoints import Tiny, write_checkpoint
from tests.engine_builder.goldens.reference import Reference, ReferenceOptions
from tests.engine_builder.goldens.upstream import list_differences
from tests.support.shared import shared

CASES = ["fp8_tp1", "fp8_tp2", "fp8_tp4_kvdup", "fp8_tp2_nokv", "fp8_tp2pp2"]


def converted(case: str, folder: Path) -> tuple[Path, Path]:
    """Our checkpoint and theirs."""
    golden = shared("trtllm-golden")
    settings = json.loads((golden / "index.json").read_text())[case]
    calibration = json.loads((golden / case / "calib.json").read_text())
    amax = folder / "amax.json"
    amax.write_text(json.dumps({"activation_amax": calibration["activation_amax"]}))
    conversion = prepare_ranks(
        golden / case / "hf",
        LayoutOptions(
            tensor_parallel=settings["tp"],
            pipeline_parallel=settings["pp"],
            quantization="fp8",
            kv_cache="fp8" if settings["kv_fp8"] else "auto",
            pad_intermediate=1,  # 24 per rank in fp8_tp4_kvdup
        ),
    )
    values = read_given_amax(conversion, file=amax, texts=None)
    convert_checkpoint(conversion, folder / "out", Reporter(None), values)
    return folder / "out", golden / case / "ckpt"


@pytest.mark.parametrize("case", CASES)
def test_files_are_the_same(case: str, tmp_path: Path) -> None:
    ours, theirs = converted(case, tmp_path)
    assert sorted(p.name for p in ours.iterdir()) == sorted(p.name for p in theirs.iterdir())
    for path in theirs.glob("*.safetensors"):
        assert (ours / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_config_says_what_theirs_says(case: str, tmp_path: Path) -> None:
    folder, golden = converted(case, tmp_path)
    ours = json.loads((folder / "config.json").read_text())
    theirs = json.loads((golden / "config.json").read_text())
    assert not list_differences(ours, theirs)


@pytest.mark.parametrize("case", CASES)
def test_the_reference_of_our_goldens_is_right(case: str) -> None:
    golden = shared("trtllm-golden") / case
    settings = json.loads((golden.parent / "index.json").read_text())[case]
    options = ReferenceOptions(
        dtype="bfloat16",
        tensor_parallel=settings["tp"],
        pipeline_parallel=settings["pp"],
        amax=json.loads((golden / "calib.json").read_text()),
        fp8_kv_cache=settings["kv_fp8"],
    )
    reference = Reference(golden / "hf", options)
    theirs = json.loads((golden / "ckpt" / "config.json").read_text())
    assert not list_differences(reference.document(), theirs)
    for name, data in reference.files().items():
        if name != "config.json":
            assert data == (golden / "ckpt" / name).read_bytes()


def test_large_tensors_are_read_in_pieces(tmp_path: Path) -> None:
    # Larger than one task, the largest weight in the last one.
    model = Tiny(hidden=2048, inter=4096, heads=2, kv_heads=1, head_size=16, vocab=3, layers=1)
    weights = model.weights()
    mlp = "model.layers.0.mlp."
    weights[f"{mlp}gate_proj.weight"][-1, -1] = 0x4400  # 512
    source = write_checkpoint(tmp_path / "hf", model, weights)
    conversion = prepare_ranks(source, LayoutOptions(tensor_parallel=2, quantization="fp8"))
    amax = Amax({f"model.layers.0.{name}": 1.0 for name in LINEAR})
    steps: list[int] = []
    (tmp_path / "out").mkdir()
    write_conversion(conversion, tmp_path / "out", steps.append, amax)
    assert sum(steps) == conversion.plan.transfer_bytes
    assert len(steps) > 2 * len(weights)
    for rank in range(2):
        found = load_file(tmp_path / "out" / f"rank{rank}.safetensors")
        for ours, theirs in (("fc", "gate_proj"), ("gate", "up_proj")):
            whole = torch.from_numpy(weights[f"{mlp}{theirs}.weight"].view(np.int16))
            half = whole.view(torch.bfloat16)[2048 * rank :][:2048]
            scale = found[f"transformer.layers.0.mlp.{ours}.weights_scaling_factor"]
            assert scale.item() == np.float32(512) / np.float32(448)
            expected = (half.float() / scale).to(torch.float8_e4m3fn)
            stored = found[f"transformer.layers.0.mlp.{ours}.weight"]
            assert torch.equal(stored.view(torch.uint8), expected.view(torch.uint8))
