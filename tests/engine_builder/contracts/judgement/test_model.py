"""Judgement of config.json, for each backend."""

from __future__ import annotations

from typing import Any

import pytest

from llmjp_builder.contracts.errors import BadConfig, UnsupportedRequest
from llmjp_builder.contracts.judgement.model import (
    parse_architecture,
    parse_rotary_embedding,
    require_served_model,
)
from llmjp_builder.contracts.judgement.rope import LinearScaling
from llmjp_builder.contracts.spec import Backend
from tests.engine_builder.checkpoints import Tiny

from .scalings import LLAMA3, REFUSED, SERVED, YARN

CONFIG = Tiny().config()
LINEAR = {"rope_type": "linear", "factor": 2.0}
LOST = {
    "yarn with a ramp of its own": "truncate is false",
    "yarn with one scale": "attention_factor is 1.13863, not",
    "yarn with an attention factor": "attention_factor is 1.5, not",
    "yarn of all positions": "original_max_position_embeddings is missing",
}
"""What TensorRT-LLM would compute otherwise."""


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("backend", Backend)
@pytest.mark.parametrize("name", SERVED)
def test_scalings_by_backend(name: str, backend: Backend, key: str) -> None:
    config = {**CONFIG, key: SERVED[name]}
    lost = LOST.get(name) if backend in {Backend.TENSORRT, Backend.PYTORCH} else None
    if lost is None:
        require_served_model(config, "config.json", backend)
        return
    with pytest.raises(UnsupportedRequest, match=lost) as raised:
        require_served_model(config, "config.json", backend)
    assert "use backend torch" in str(raised.value)


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("backend", [None, *Backend])
@pytest.mark.parametrize("name", REFUSED)
def test_no_backend_serves_the_others(name: str, backend: Backend | None, key: str) -> None:
    document, words = REFUSED[name]
    with pytest.raises((UnsupportedRequest, BadConfig), match=f"config.json: {key}.*{words}"):
        require_served_model({**CONFIG, key: document}, "config.json", backend)


def test_a_part_of_each_head_in_the_older_place() -> None:
    with pytest.raises(UnsupportedRequest, match=r"partial_rotary_factor is 0\.25"):
        require_served_model({**CONFIG, "partial_rotary_factor": 0.25}, "config.json")


@pytest.mark.parametrize(
    ("scaling", "parameters"),
    [(LINEAR, LLAMA3), (YARN, {"rope_type": "default"}), ({"type": "default"}, LINEAR)],
)
def test_keys_that_contradict_each_other(
    scaling: dict[str, Any], parameters: dict[str, Any]
) -> None:
    config = {**CONFIG, "rope_scaling": scaling, "rope_parameters": parameters}
    with pytest.raises(BadConfig, match="contradict each other"):
        parse_rotary_embedding(config, "config.json")


def test_both_keys_with_one_meaning() -> None:
    config = {"rope_scaling": LINEAR, "rope_parameters": {**LINEAR, "rope_theta": 5e5}}
    rotary = parse_rotary_embedding(config, "config.json")
    assert (rotary.theta, rotary.scaling) == (5e5, LinearScaling(factor=2.0))
    assert rotary.document == LINEAR


@pytest.mark.parametrize("theta", [0, -1, "10000", True, float("nan"), float("inf"), 1e31])
def test_a_broken_theta(theta: object) -> None:
    with pytest.raises(BadConfig, match="rope_theta must be a positive number"):
        parse_rotary_embedding({"rope_theta": theta}, "config.json")


@pytest.mark.parametrize("backend", [None, *Backend])
@pytest.mark.parametrize("name", ["AutoConfig", "AutoModel", "AutoModelForCausalLM"])
def test_a_checkpoint_that_computes_with_its_own_code(name: str, backend: Backend | None) -> None:
    config = {**CONFIG, "auto_map": {name: "modeling_x.XForCausalLM"}}
    with pytest.raises(UnsupportedRequest, match=f"auto_map has {name} 'modeling_x"):
        require_served_model(config, "config.json", backend)


def test_code_of_the_tokenizer_is_no_matter_of_the_model() -> None:
    own = {"AutoTokenizer": ["tokenization_x.X", None]}
    require_served_model({**CONFIG, "auto_map": own}, "config.json")


@pytest.mark.parametrize(
    "document",
    [
        {"architectures": ["LlamaForCausalLM"], "model_type": "other"},
        {"architectures": ["LLaMAForCausalLM"]},
        {"architectures": None, "model_type": "llama"},
        {"architectures": [], "model_type": "llama"},
        {"model_type": "llama"},
    ],
)
def test_spellings_of_a_llama(document: dict[str, Any]) -> None:
    assert parse_architecture(document, "config.json") == "LlamaForCausalLM"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"model_type": "mistral"},
        {"architectures": ["MistralForCausalLM"], "model_type": "llama"},
        {"architectures": ["LlamaForCausalLM", "LlamaForCausalLM"]},
        {"architectures": "LlamaForCausalLM"},
        {"architectures": ["llamaforcausallm"]},
    ],
)
def test_other_architectures(document: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedRequest, match="architectures is"):
        parse_architecture(document, "config.json")
