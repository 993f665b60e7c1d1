"""Calibration of models with scaled rotary embeddings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llmjp_builder.convert.model_config import parse_model_config
from llmjp_builder.quantize.calibration.decoder import RotaryEmbedding
from tests.engine_builder.contracts.judgement.scalings import LLAMA3, SERVED

from .models import MODEL, calibrated, drawn_texts, written

CONFIG = replace(MODEL, head_size=32).config()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SERVED)
def test_cosines_and_sines_are_those_of_transformers(name: str, dtype: torch.dtype) -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    from transformers import LlamaConfig

    document = {**CONFIG, "rope_scaling": SERVED[name]}
    like = torch.zeros(1, dtype=dtype)
    found = RotaryEmbedding.compute(parse_model_config(document, "config.json"), 50, like)
    theirs = llama.LlamaRotaryEmbedding(LlamaConfig.from_dict(json.loads(json.dumps(document))))
    cosine, sine = theirs(like, torch.arange(50)[None])
    assert torch.equal(found.cosine_th, cosine[0])
    assert torch.equal(found.sine_th, sine[0])


def test_amax_depends_on_it(tmp_path: Path) -> None:
    texts = drawn_texts(MODEL.vocab, (40,))
    source = written(tmp_path / "hf")
    plain = calibrated(source, tmp_path / "plain", texts)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"rope_scaling": LLAMA3}))
    scaled = calibrated(source, tmp_path / "scaled", texts)
    assert plain.kv.keys() == scaled.kv.keys()
    assert plain != scaled
