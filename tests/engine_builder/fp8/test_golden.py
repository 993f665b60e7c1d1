"""FP8 checkpoints that modelopt wrote beside TensorRT-LLM, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmjp_builder.conversion import convert, prepare
from llmjp_builder.progress import Reporter
from llmjp_builder.quantize.activations import activation_amax
from tests.support.shared import shared

CASES = ["fp8_tp1", "fp8_tp2", "fp8_tp4_kvdup", "fp8_tp2_nokv", "fp8_tp2pp2"]


def converted(case: str, folder: Path) -> tuple[Path, Path]:
    """Our checkpoint and theirs."""
    golden = shared("trtllm-golden")
    settings = json.loads((golden / "index.json").read_text())[case]
    calibration = json.loads((golden / case / "calib.json").read_text())
    amax = folder / "amax.json"
    amax.write_text(json.dumps({"activation_amax": calibration["activation_amax"]}))
    conversion = prepare(
        golden / case / "hf",
        tensor_parallel=settings["tp"],
        pipeline_parallel=settings["pp"],
        quantization="fp8",
        kv_cache="fp8" if settings["kv_fp8"] else "auto",
        pad_intermediate=1,  # 24 per rank in fp8_tp4_kvdup
    )
    values = activation_amax(conversion, file=amax, texts=None)
    convert(conversion, folder / "out", Reporter(None), values)
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
    ours: dict[str, Any] = json.loads((folder / "config.json").read_text())
    theirs = json.loads((golden / "config.json").read_text())
    for section in ("mapping", "quantization"):
        nested = ours.pop(section)
        assert nested == {key: theirs[section][key] for key in nested}
    assert ours == {key: theirs[key] for key in ours}
    assert ours["use_parallel_embedding"] is True
    assert ours["logits_dtype"] == "float16"
