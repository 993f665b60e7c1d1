"""Against modelopt itself, on the amax that it found: every byte of every tensor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.conversion import Conversion, convert_checkpoint, prepare_ranks
from llmjp_builder.convert.header import read_header
from llmjp_builder.progress import Reporter
from llmjp_builder.quantize.activations import read_given_amax
from llmjp_builder.quantize.unified import prepare_unified
from tests.engine_builder.goldens.upstream import list_differences
from tests.engine_builder.quantize.modelopt import CASES, Case

pytestmark = pytest.mark.slow

RANKED = [(name, tp, pp) for name, case in CASES.items() for tp, pp in case.layouts]

Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]


def tensors(folder: Path, pattern: str = "*.safetensors") -> Tensors:
    """Element type, shape and bytes of every tensor in the files of a folder."""
    found: Tensors = {}
    for path in sorted(folder.glob(pattern)):
        data = path.read_bytes()
        for name, info in read_header(path).items():
            assert name not in found
            contents = data[info.offset : info.offset + info.size]
            found[name] = info.dtype, info.shape, contents
    return found


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def written(conversion: Conversion, amax: Path, out: Path) -> Path:
    convert_checkpoint(
        conversion, out, Reporter(None), read_given_amax(conversion, file=amax, texts=None)
    )
    return out


def options(case: Case) -> dict[str, Any]:
    kv_cache = "fp8" if case.kv_cache else "auto"
    return {"dtype": case.dtype, "quantization": "fp8", "kv_cache": kv_cache}


@pytest.mark.parametrize(("name", "tp", "pp"), RANKED)
def test_ranks(modelopt: Path, tmp_path: Path, name: str, tp: int, pp: int) -> None:
    conversion = prepare_ranks(
        modelopt / name / "hf",
        LayoutOptions(
            tensor_parallel=tp,
            pipeline_parallel=pp,
            pad_intermediate=1,
            **options(CASES[name]),
        ),
    )
    out = written(conversion, modelopt / name / "amax.json", tmp_path / "out")
    theirs = modelopt / name / f"tp{tp}pp{pp}"
    for rank in range(tp * pp):
        file = f"rank{rank}.safetensors"
        assert tensors(out, file) == tensors(theirs, file), file
    ours, expected = document(out / "config.json"), document(theirs / "config.json")
    # Without TensorRT-LLM beside it, modelopt leaves RoPE out.
    rope = {key: ours[key] for key in ("rotary_base", "rotary_scaling")}
    assert not list_differences(ours, expected | rope)


@pytest.mark.parametrize("name", CASES)
def test_unified(modelopt: Path, tmp_path: Path, name: str) -> None:
    folder = modelopt / name
    conversion = prepare_unified(folder / "hf", LayoutOptions(**options(CASES[name])))
    out = written(conversion, folder / "amax.json", tmp_path / "out")
    assert tensors(out) == tensors(folder / "unified")
    ours, theirs = document(out / "config.json"), document(folder / "unified" / "config.json")
    assert ours["quantization_config"] == theirs["quantization_config"]
    assert ours["torch_dtype"] == theirs["dtype"]
    quant = "hf_quant_config.json"
    assert document(out / quant) == document(folder / "unified" / quant)


def test_some_kv_scales_are_above_one(modelopt: Path) -> None:
    # Else the comparison above would say nothing about them.
    found = tensors(modelopt / "loud keys and values" / "unified")
    one = b"\x00\x00\x80\x3f"
    scales = {name: value[2] for name, value in found.items() if name.endswith("k_scale")}
    assert scales
    assert one not in scales.values()
