"""Requests to vLLM and its outputs as events. The real vLLM: tests/triton/test_vllm.py."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmjp_runtime import artefact
from llmjp_runtime.artefact import detect_backend, find_tokenizer
from llmjp_runtime.errors import ArtefactInvalid, EngineMissing
from llmjp_runtime.executor.protocol import ExecutorLimits, FinishReason
from llmjp_runtime.executor.vllm.engine import EngineSettings, build_engine_arguments, load_api
from llmjp_runtime.executor.vllm.messages import VllmReply, build_sampling_arguments
from tests.runtime.executor.tensorrt.test_messages import END, asked

NEUTRAL = {"max_tokens": 5, "detokenize": False, "ignore_eos": True}
DRAWN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({}, DRAWN),
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"top_k": 1, "top_p": 0.5}, {"temperature": 0.0}),
        ({"top_k": 40, "top_p": 0.5}, {"temperature": 1.0, "top_k": 40, "top_p": 0.5}),
        ({"seed": 0}, DRAWN | {"seed": 0}),
        ({"repetition_penalty": 1.5}, DRAWN | {"repetition_penalty": 1.5}),
        ({"presence_penalty": -0.5}, DRAWN | {"presence_penalty": -0.5}),
        ({"frequency_penalty": 0.5}, DRAWN | {"frequency_penalty": 0.5}),
        ({"min_tokens": 2}, DRAWN | {"min_tokens": 2}),
        ({"end_ids": frozenset({9, 4})}, DRAWN | {"stop_token_ids": [4, 9]}),
        ({"embedding_bias": ((3, 1.5), (3, 1.0))}, DRAWN | {"logit_bias": {3: 2.5}}),
        ({"log_probs": True}, DRAWN | {"logprobs": 0}),
    ],
)
def test_sampling_says_what_is_asked_for_and_nothing_else(
    sampling: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert build_sampling_arguments(asked(**sampling)) == NEUTRAL | expected


@dataclass
class LogProb:
    logprob: float


@dataclass
class Output:
    """What is read of `vllm.CompletionOutput`."""

    token_ids: tuple[int, ...] = ()
    finish_reason: str | None = None
    logprobs: list[dict[int, LogProb]] | None = field(default=None)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([Output((5,)), Output((2,), "stop")], ((5,), 2, FinishReason.STOP)),
        ([Output((5, 6)), Output((7,), "length")], ((5, 6, 7), 3, FinishReason.LENGTH)),
        ([Output((5,)), Output((), "abort")], ((5,), 1, FinishReason.CANCELLED)),
        ([Output((5,))], ((5,), 1, FinishReason.CANCELLED)),
    ],
)
def test_outputs_become_events(outputs: list[Output], expected: Any) -> None:
    reply = VllmReply(asked(**END))
    events = [event for each in outputs if (event := reply.feed(each)) is not None]
    final = reply.end(outputs[-1].finish_reason, cancelled=True)
    ids = tuple(token for event in events for token in event.token_ids)
    assert (ids, final.num_generated, final.finish_reason) == expected


def test_the_chosen_ids_log_probabilities_are_passed_on() -> None:
    steps = [{5: LogProb(-0.5)}, {9: LogProb(-1.0), 6: LogProb(-2.0)}, {2: LogProb(0.0)}]
    event = VllmReply(asked(log_probs=True, **END)).feed(Output((5, 6, 2), "stop", steps))
    assert event is not None
    assert event.log_probs == (-0.5, -2.0)


def test_the_engine_is_told_what_was_set() -> None:
    settings = EngineSettings(tensor_parallel=2, memory_fraction=0.5, prefix_caching=False)
    limits = ExecutorLimits(max_context=64, vocab_size=50, max_batch_size=3)
    found = build_engine_arguments(Path("/m"), limits, settings, runs_on_cpu=False)
    assert (
        found.items()
        >= {
            "model": "/m",
            "max_model_len": 64,
            "max_num_seqs": 3,
            "tensor_parallel_size": 2,
            "gpu_memory_utilization": 0.5,
            "enable_prefix_caching": False,
            "enforce_eager": False,
        }.items()
    )


def test_draws_without_a_seed_differ_from_start_to_start() -> None:
    limits = ExecutorLimits(max_context=64, vocab_size=50, max_batch_size=3)
    settings = EngineSettings(memory_fraction=0.5)
    made = [build_engine_arguments(Path("/m"), limits, settings, runs_on_cpu=True) for _ in "abc"]
    assert len({arguments["seed"] for arguments in made}) == 3


def test_without_vllm_its_place_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", None)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(EngineMissing, match="backend vllm needs vLLM"):
        load_api()


def test_a_plain_checkpoint_is_vllms_and_has_its_tokenizer_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArtefactInvalid, match=r"no manifest\.json"):
        detect_backend(tmp_path)
    monkeypatch.setattr(artefact, "find_spec", lambda name: object())
    assert detect_backend(tmp_path) == "vllm"
    assert find_tokenizer(tmp_path) == tmp_path
    (tmp_path / "manifest.json").write_text("{}")
    assert find_tokenizer(tmp_path) == tmp_path / "tokenizer"
