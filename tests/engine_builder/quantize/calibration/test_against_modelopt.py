"""The amax that NVIDIA's modelopt finds: every number equal, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmjp_builder.contracts.spec import Dtype
from llmjp_builder.convert.checkpoint import read_checkpoint
from llmjp_builder.quantize.calibration.passages import read_built_in_passages
from llmjp_builder.quantize.calibration.tokens import tokenise
from tests.engine_builder.checkpoints import write_checkpoint
from tests.engine_builder.quantize.calibration.conftest import modelopt_amax
from tests.engine_builder.quantize.calibration.models import Texts, calibrated, drawn_texts
from tests.engine_builder.quantize.modelopt import CASES
from tests.support.shared import ROOT, shared

pytestmark = pytest.mark.slow

GOLDENS = ("fp8_tp1", "fp8_tp2", "fp8_tp2_nokv", "fp8_tp2pp2", "fp8_tp4_kvdup")
EXAMPLE = "example model"
NAMES = (*GOLDENS, EXAMPLE, *CASES)

Sources = dict[str, tuple[Path, Dtype, Texts]]


def golden(name: str) -> tuple[Path, dict[str, Any]]:
    folder = shared("trtllm-golden") / name
    recorded: dict[str, Any] = json.loads((folder / "calib.json").read_text())
    return folder / "hf", recorded


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    found: Sources = {}
    for name in GOLDENS:
        folder, recorded = golden(name)
        found[name] = folder, "bfloat16", tuple(map(tuple, recorded["calib_input_ids"]))
    example = ROOT / "examples" / "tiny-model" / "checkpoint"
    passages = read_built_in_passages()[::25]
    texts = tokenise(example, read_checkpoint(example).config, passages, 200).texts
    found[EXAMPLE] = example, "bfloat16", texts
    for i, (name, case) in enumerate(CASES.items()):
        folder = tmp_path_factory.mktemp("hf")
        write_checkpoint(folder, case.model, case.weights(), shards=case.shards)
        dtype: Dtype = "float16" if case.dtype == "float16" else "bfloat16"
        found[name] = folder, dtype, drawn_texts(case.model.vocab, (1, 2, 17, 40), seed=i)
    return found


@pytest.fixture(scope="module")
def theirs(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return modelopt_amax(tmp_path_factory.mktemp("amax"), {**sources})


@pytest.mark.parametrize("name", NAMES)
def test_equal(sources: Sources, theirs: dict[str, Any], tmp_path: Path, name: str) -> None:
    source, dtype, texts = sources[name]
    ours = calibrated(source, tmp_path / "work", texts, dtype).to_json()
    assert ours == theirs[name]


@pytest.mark.parametrize("name", GOLDENS)
def test_recorded_elsewhere(sources: Sources, tmp_path: Path, name: str) -> None:
    # Another machine with other kernels: a sum may be rounded to the neighbouring number.
    source, dtype, texts = sources[name]
    _, recorded = golden(name)
    ours = calibrated(source, tmp_path / "work", texts, dtype).activations
    expected = recorded["activation_amax"]
    assert ours.keys() == expected.keys()
    steps = [abs(bits(ours[name]) - bits(expected[name])) for name in expected]
    assert max(steps) <= 1
    assert sum(steps) <= 1


def bits(value: float) -> int:
    """Of a bfloat16: neighbours differ by one."""
    word = int(np.float32(value).view(np.uint32))
    assert word & 0xFFFF == 0
    return word >> 16
