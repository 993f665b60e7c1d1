"""Scaled rotary embeddings: converted, run and compared, as transformers computes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import LlamaForCausalLM

from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.conversion import convert_checkpoint, prepare_ranks
from llmjp_builder.progress import Reporter
from llmjp_runtime.executor.torch.config import read_config
from llmjp_runtime.executor.torch.loader import load_model
from llmjp_runtime.verify.errors import DifferentModel
from llmjp_runtime.verify.reference_config import read_reference_config, require_same_model
from tests.engine_builder.contracts.judgement.scalings import LLAMA3, SERVED, YARN
from tests.runtime.verify.models import random_folder, random_prompts
from tests.runtime.verify.test_reference import assert_is_transformers

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ["linear", "llama3", "yarn", "yarn with a ramp of its own", "yarn with two scales"]


def scaled_folder(folder: Path, scaling: dict[str, Any], **shape: Any) -> Path:
    return random_folder(folder, rope_scaling=dict(scaling), num_hidden_layers=2, **shape)


def converted(source: Path, out: Path) -> Path:
    prepared = prepare_ranks(source, LayoutOptions(tensor_parallel=2))
    convert_checkpoint(prepared, out, Reporter(None))
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    """And not those without scaling: at 100 tokens they are far apart."""
    source = scaled_folder(tmp_path / "hf", SERVED[kind], rope_theta=500000.0)
    ours = load_model(converted(source, tmp_path / "ranks"), device="cpu", compute_dtype="float32")
    theirs = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    [ids] = random_prompts(1, 211, longest=100)
    ids = (ids * 100)[:100]
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0]
    found = ours.compute_logits(list(ids))
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=1e-4)
    path = tmp_path / "ranks" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rotary_scaling": None}))
    plain = load_model(tmp_path / "ranks", device="cpu", compute_dtype="float32")
    assert (plain.compute_logits(list(ids)) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["llama3", "yarn"])
def test_verify_reads_the_reference_alike(kind: str, tmp_path: Path) -> None:
    assert_is_transformers(scaled_folder(tmp_path, SERVED[kind]), num_new=4)


@pytest.mark.parametrize("other", [None, YARN, {**LLAMA3, "factor": 4.0}])
def test_verify_names_another_scaling(other: dict[str, Any] | None, tmp_path: Path) -> None:
    source = scaled_folder(tmp_path / "hf", LLAMA3)
    path = converted(source, tmp_path / "ranks") / "config.json"
    reference = read_reference_config(source / "config.json")
    require_same_model(reference, read_config(path), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rotary_scaling": other}))
    with pytest.raises(DifferentModel, match="rotary_scaling is"):
        require_same_model(reference, read_config(path), path)
