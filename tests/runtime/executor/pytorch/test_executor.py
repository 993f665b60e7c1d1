"""The executor over TensorRT-LLM's LLM API, held against a stand-in of its documented API."""

from __future__ import annotations

import json
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from llmjp_runtime.errors import (
    ArtefactInvalid,
    ExecutorClosed,
    OptionInvalid,
    RequestRefused,
    TritonMissing,
)
from llmjp_runtime.executor import asyncio_calls
from llmjp_runtime.executor.protocol import Executor, Feature, FinishReason
from llmjp_runtime.executor.pytorch.executor import PyTorchExecutor
from llmjp_runtime.executor.pytorch.llm_api import load_api
from llmjp_runtime.executor.pytorch.messages import LlmReply, build_sampling_arguments
from tests.runtime.executor.awaited import Awaited
from tests.runtime.executor.tensorrt.test_messages import END, asked
from tests.support import tensorrt_llm_api_stand_in as stand_in
from tests.support.tensorrt_llm_api_stand_in import API, VOCAB, CompletionOutput, SamplingParams

WAIT_S = 30.0


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    config = {"max_position_embeddings": 64, "vocab_size": VOCAB}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.fixture
def executor(checkpoint: Path) -> Iterator[PyTorchExecutor]:
    running = PyTorchExecutor.load(API, checkpoint, max_batch_size=2)
    yield running
    running.close()
    assert llm(running).is_shut_down
    assert running.health().num_active == 0


def llm(executor: PyTorchExecutor) -> stand_in.LLM:
    loaded: stand_in.LLM = executor._llm
    return loaded


def release(executor: PyTorchExecutor) -> None:
    """Let replies come."""
    executor._loop.call_soon_threadsafe(llm(executor).gate.set)


def submit(
    executor: PyTorchExecutor, prompt: int, *, log_probs: bool = False, **sampling: Any
) -> tuple[str, Awaited]:
    name, listener = f"x{prompt}", Awaited()
    request = asked((prompt,), log_probs=log_probs, **sampling)
    executor.submit(replace(request, request_id=name), listener)
    return name, listener


def until(condition: Callable[[], bool]) -> None:
    gate = threading.Event()
    for _ in range(int(WAIT_S / 0.005)):
        if condition():
            return
        gate.wait(0.005)
    raise AssertionError("it did not come to pass")


def arguments(**sampling: Any) -> dict[str, Any]:
    return build_sampling_arguments(asked(**sampling), lambda pairs: torch.zeros(VOCAB))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({}, {"max_tokens": 5, "top_k": 0, "top_p": 1.0, "temperature": 1.0}),
        ({"temperature": 0.0}, {"top_k": 1}),
        ({"top_k": 1, "top_p": 0.5}, {"top_k": 1, "temperature": 1.0}),
        ({"seed": 7}, {"seed": 7}),
        ({"repetition_penalty": 1.5}, {"repetition_penalty": 1.5}),
        (
            {"presence_penalty": 0.5},
            {"presence_penalty": 0.5, "frequency_penalty": 0.0, "prompt_ignore_length": 3},
        ),
        ({"min_tokens": 2}, {"min_tokens": 2}),
        ({"end_ids": frozenset({4})}, {"end_id": 4}),
        ({"end_ids": frozenset({9, 4, 6})}, {"end_id": 4, "stop_token_ids": [6, 9]}),
        ({"log_probs": True}, {"logprobs": 1}),
        ({}, {"detokenize": False, "add_special_tokens": False, "ignore_eos": True}),
    ],
)
def test_sampling_params(sampling: dict[str, Any], expected: dict[str, Any]) -> None:
    found = arguments(**sampling)
    assert {name: found[name] for name in expected} == expected
    SamplingParams(**found)


def test_greedy_by_temperature_sends_none() -> None:
    assert not {"temperature", "top_p"} & arguments(temperature=0.0).keys()


def test_what_asks_for_nothing_is_left_out() -> None:
    left_out = {
        "repetition_penalty",
        "presence_penalty",
        "min_tokens",
        "embedding_bias",
        "logprobs",
    }
    assert not left_out & arguments().keys()


def test_without_a_seed_each_request_draws_its_own() -> None:
    assert len({arguments()["seed"] for _ in range(8)}) == 8


def completion(*diff: int, before: int = 0, reason: str | None = None) -> CompletionOutput:
    made = CompletionOutput(0, token_ids=[0] * before + list(diff), finish_reason=reason)
    made._last_token_ids_len = before
    return made


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([completion(5), completion(before=1, reason="stop")], ((5,), 2, FinishReason.STOP)),
        ([completion(5), completion(2, before=1, reason="stop")], ((5,), 2, FinishReason.STOP)),
        ([completion(5, 6, reason="length")], ((5, 6), 2, FinishReason.LENGTH)),
        ([completion(5), completion(reason="cancelled")], ((5,), 1, FinishReason.CANCELLED)),
        ([completion(5), completion(reason="timeout")], ((5,), 1, FinishReason.DEADLINE)),
        ([completion(5), completion()], ((5,), 1, FinishReason.CANCELLED)),
    ],
)
def test_outputs_become_events(steps: list[CompletionOutput], expected: Any) -> None:
    reply = LlmReply(asked(**END))
    events = [event for step in steps if (event := reply.feed(step)) is not None]
    final = reply.end(steps[-1].finish_reason, cancelled=True)
    ids = tuple(token for event in events for token in event.token_ids)
    assert (ids, final.num_generated, final.finish_reason) == expected


def test_an_end_without_a_reason_is_a_failure_unless_it_was_asked_for() -> None:
    final = LlmReply(asked()).end("not_finished", cancelled=False)
    assert final.error == "the engine failed: it ended with finish_reason 'not_finished'"


def test_the_llm_is_told_what_was_set(checkpoint: Path) -> None:
    executor = PyTorchExecutor.load(
        API,
        checkpoint,
        tensor_parallel=4,
        pipeline_parallel=2,
        max_batch_size=16,
        max_context=32,
        kv_cache_fraction=0.5,
    )
    found = llm(executor).arguments
    assert found.pop("kv_cache_config").free_gpu_memory_fraction == 0.5
    assert found == {
        "model": str(checkpoint),
        "skip_tokenizer_init": True,
        "tensor_parallel_size": 4,
        "pipeline_parallel_size": 2,
        "max_batch_size": 16,
        "max_seq_len": 32,
        "enable_chunked_prefill": True,
        "sampler_type": "TRTLLMSampler",
    }
    executor.close()


def test_it_is_an_executor(executor: PyTorchExecutor) -> None:
    protocol: Executor = executor
    assert protocol.features == frozenset(Feature) - {Feature.BAD_WORDS, Feature.TOP_LOG_PROBS}
    limits = protocol.limits
    assert (limits.max_context, limits.vocab_size, limits.max_batch_size) == (64, VOCAB, 2)


def test_replies_stream(executor: PyTorchExecutor) -> None:
    release(executor)
    _, by_length = submit(executor, 10, log_probs=True, max_tokens=3)
    _, by_end = submit(executor, 20, end_ids=frozenset({22}), max_tokens=5)
    _, by_stop = submit(executor, 30, end_ids=frozenset({2, 33}), max_tokens=5)
    assert by_length.last().finish_reason is FinishReason.LENGTH
    assert by_length.token_ids == (11, 12, 13)
    log_probs = [value for event in by_length.events for value in event.log_probs or ()]
    assert log_probs == pytest.approx([-1.1, -1.2, -1.3])
    assert [event.num_generated for event in by_length.events] == [1, 2, 3, 3]
    assert (by_end.last().finish_reason, by_end.token_ids) == (FinishReason.STOP, (21,))
    assert (by_stop.last().finish_reason, by_stop.token_ids) == (FinishReason.STOP, (31, 32))
    assert (by_end.last().num_generated, by_stop.last().num_generated) == (2, 3)
    health = executor.health()
    assert (health.num_generated, health.num_steps, health.error) == (8, 8, None)


def test_a_bias_is_a_tensor_over_the_vocabulary(executor: PyTorchExecutor) -> None:
    release(executor)
    submit(executor, 5, embedding_bias=((3, 1.5), (3, 1.0)), max_tokens=1)[1].last()
    bias = llm(executor).requests[0].params.embedding_bias
    assert bias is not None
    assert bias.dtype == torch.float32
    assert bias.tolist() == [2.5 if token == 3 else 0.0 for token in range(VOCAB)]


def test_cancelling_aborts(executor: PyTorchExecutor) -> None:
    name, listener = submit(executor, 5)
    until(lambda: bool(llm(executor).requests))
    assert executor.health().num_active == 1
    assert executor.cancel(name)
    assert listener.last().finish_reason is FinishReason.CANCELLED
    assert llm(executor).aborted == [[5]]
    assert not executor.cancel(name)


def test_an_abort_that_is_not_followed_ends_the_request_all_the_same(
    executor: PyTorchExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio_calls, "ABORT_S", 0.01)
    llm(executor).deaf = True
    name, listener = submit(executor, 5)
    until(lambda: bool(llm(executor).requests))
    executor.cancel(name)
    assert listener.last().finish_reason is FinishReason.CANCELLED


def test_a_request_that_fails_is_its_own_error(executor: PyTorchExecutor) -> None:
    llm(executor).failure = stand_in.RequestError("too long")
    release(executor)
    _, listener = submit(executor, 5)
    assert listener.last().error == "the engine failed: too long"
    assert executor.health().error is None


def test_any_other_failure_is_the_engines(executor: PyTorchExecutor) -> None:
    llm(executor).failure = RuntimeError("worker died")
    release(executor)
    _, listener = submit(executor, 5)
    assert listener.last().error == "the engine failed: worker died"
    assert executor.health().error == "RuntimeError in TensorRT-LLM"


def test_health_tells_a_full_batch_from_what_waits(executor: PyTorchExecutor) -> None:
    listeners = [submit(executor, prompt)[1] for prompt in (5, 6, 7)]
    health = executor.health()
    assert (health.num_active, health.num_waiting) == (2, 1)
    release(executor)
    for listener in listeners:
        listener.last()


def test_the_heart_beats_while_idle(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio_calls, "BEAT_S", 0.001)
    executor = PyTorchExecutor.load(API, checkpoint)
    beats: set[float] = set()
    while len(beats) < 3:
        beats.add(executor._heartbeat)
    executor.close()


def test_limits_and_ids_in_use_are_refused(executor: PyTorchExecutor) -> None:
    name, listener = submit(executor, 5)
    with pytest.raises(RequestRefused, match="is in use"):
        submit(executor, 5)
    with pytest.raises(RequestRefused, match="exceed the context of 64"):
        submit(executor, 6, max_tokens=64)
    executor.cancel(name)
    listener.last()


def test_close_ends_everything(checkpoint: Path) -> None:
    executor = PyTorchExecutor.load(API, checkpoint, max_batch_size=2)
    listeners = [submit(executor, prompt)[1] for prompt in (5, 6, 7)]
    executor.close()
    executor.close()
    assert {listener.last().finish_reason for listener in listeners} == {FinishReason.CANCELLED}
    with pytest.raises(ExecutorClosed):
        submit(executor, 8)
    assert llm(executor).is_shut_down


@pytest.mark.parametrize(
    ("config", "says"),
    [("{", "cannot be read"), ('{"vocab_size": 3}', "has no 'max_position_embeddings'")],
)
def test_a_malformed_config_is_named(checkpoint: Path, config: str, says: str) -> None:
    (checkpoint / "config.json").write_text(config)
    with pytest.raises(ArtefactInvalid, match=says):
        PyTorchExecutor.load(API, checkpoint)


def test_a_context_beyond_the_models(checkpoint: Path) -> None:
    with pytest.raises(OptionInvalid, match="max_context is 65, expected 1 to 64"):
        PyTorchExecutor.load(API, checkpoint, max_context=65)


def test_the_api_is_found_under_nvidias_names(monkeypatch: pytest.MonkeyPatch) -> None:
    package, llmapi = types.ModuleType("tensorrt_llm"), types.ModuleType("tensorrt_llm.llmapi")
    for module, names in ((package, ("LLM", "SamplingParams")), (llmapi, ("KvCacheConfig",))):
        for name in (*names, "RequestError"):
            setattr(module, name, getattr(stand_in, name))
    monkeypatch.setitem(sys.modules, "tensorrt_llm", package)
    monkeypatch.setitem(sys.modules, "tensorrt_llm.llmapi", llmapi)
    assert load_api() == API


def test_without_tensorrt_llm_the_image_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_llm", None)
    with pytest.raises(TritonMissing, match="backend pytorch needs TensorRT-LLM"):
        load_api()
