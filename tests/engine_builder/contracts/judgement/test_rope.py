"""The frequencies are transformers' own, to the last bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llmjp_builder.contracts.errors import BadConfig, UnsupportedRequest
from llmjp_builder.contracts.judgement.rope import RopeScaling, parse_rope_scaling

from .scalings import LLAMA3, REFUSED, SERVED, YARN

POSITIONS = 64
THETAS = (150.0, 10000.0, 500000.0, 1e6)


def parse(document: dict[str, Any] | None, theta: float = 10000.0) -> RopeScaling | None:
    return parse_rope_scaling(document, "config.json", max_positions=POSITIONS, theta=theta)


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("head_size", [2, 8, 64, 96, 128])
@pytest.mark.parametrize("name", SERVED)
def test_frequencies_equal_those_of_transformers(name: str, head_size: int, theta: float) -> None:
    rope = pytest.importorskip("transformers.modeling_rope_utils")
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=head_size,
        num_attention_heads=1,
        head_dim=head_size,
        max_position_embeddings=POSITIONS,
        rope_theta=theta,
        rope_scaling=dict(SERVED[name]),
    )
    scaling = parse(SERVED[name], theta)
    assert scaling is not None
    kind = SERVED[name].get("rope_type") or SERVED[name]["type"]
    expected, attention_factor = rope.ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    half = torch.arange(0, head_size, 2, dtype=torch.int64).float() / head_size
    found = scaling.compute_frequencies((theta**half).tolist(), theta)
    assert torch.equal(torch.tensor(found), expected)
    assert scaling.attention_factor == attention_factor


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_computed_is_refused_by_name(name: str) -> None:
    document, words = REFUSED[name]
    with pytest.raises((UnsupportedRequest, BadConfig), match=words) as raised:
        parse(document)
    assert str(raised.value).startswith("config.json: ")


@pytest.mark.parametrize("document", [None, {}, {"rope_type": "default"}, {"rope_theta": 5.0}])
def test_a_plain_embedding(document: dict[str, Any] | None) -> None:
    assert parse(document) is None


def test_a_base_without_logarithm() -> None:
    with pytest.raises(BadConfig, match="rope_theta above 1"):
        parse(YARN, theta=1.0)


@pytest.mark.parametrize("document", [LLAMA3, YARN, SERVED["linear"]])
def test_powers_beyond_float32(document: dict[str, Any]) -> None:
    """Their frequency is zero: the position does not matter there."""
    scaling = parse(document, theta=1e30)
    assert scaling is not None
    assert scaling.compute_frequencies([1.0, float("inf")], 1e30)[1] == 0
