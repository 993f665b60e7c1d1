"""The real llm-jp tokenizer, over a checkpoint of its vocabulary: build, serve, chat."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llmjp_client import Client
from llmjp_runtime.text.messages import Message
from llmjp_runtime.text.tokenizer import TextTokenizer
from tests.support.shared import shared
from tests.support.triton import build_artefact, serving

ROWS = 99584
"""Vocabulary of llm-jp-3's checkpoints up to 13b: the tokenizer's 99574 entries, padded."""
QUESTION = "自然言語処理とは何か"
PROMPT_IDS = (
    1, 46337, 78440, 60970, 29083, 76016, 56252, 70725, 78439, 75658, 29083, 76811, 29179, 72952,
    29131, 70147, 29083, 71559, 56856, 28949, 18, 18, 27338, 49615, 28752, 18, 75151, 75849, 66692,
    78455, 99244, 18, 18, 27338, 279, 70147, 28752, 18,
)  # fmt: skip
"""The question in the chat template, as transformers tokenises it with the released tokenizer."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of random weights beside the real tokenizer."""
    folder = tmp_path_factory.mktemp("real") / "checkpoint"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=ROWS,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(shared("llm-jp-tokenizer-v3.0") / name, folder)
    return folder


def test_build_serve_chat(checkpoint: Path, tmp_path: Path) -> None:
    artefact = build_artefact(checkpoint, tmp_path / "store")
    tokenizer = TextTokenizer.load(artefact / "tokenizer")
    assert tuple(tokenizer.encode_chat([Message("user", QUESTION)])) == PROMPT_IDS
    with (
        serving(artefact, tmp_path / "log", max_batch_size=2) as server,
        Client(server.grpc_endpoint) as client,
    ):
        messages = [{"role": "user", "content": QUESTION}]
        options = {"top_k": 1, "repetition_penalty": 1.0, "max_tokens": 24}
        whole = client.chat(messages, **options)  # type: ignore[arg-type]
        by_ids = client.generate(PROMPT_IDS, **options)  # type: ignore[arg-type]
        with client.stream(messages, **options) as stream:  # type: ignore[arg-type]
            text = "".join(chunk.text for chunk in stream)
    assert whole.usage.input_tokens == len(PROMPT_IDS)
    assert whole.output_ids == by_ids.output_ids
    assert text == whole.text == by_ids.text
    assert max(whole.output_ids) < tokenizer.num_entries
