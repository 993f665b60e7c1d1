"""What is refused by its size alone, and that nothing which could fit is."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest

from llmjp_runtime.executor.protocol import ExecutorLimits, FinishReason
from llmjp_runtime.front.bounds import MAX_WORD_BYTES, MAX_WORDS, check_bounds, derive_bounds
from llmjp_runtime.front.intake import LARGE_BYTES, Intake
from llmjp_runtime.front.prompt import Prompt, build_prompt
from llmjp_runtime.front.request import InvalidArgument
from llmjp_runtime.text.tokenizer import TextTokenizer
from tests.runtime.front.service_bench import REPLY, Bench, array

LIMITS = ExecutorLimits(max_context=4096, vocab_size=99_584, max_batch_size=8)
BOUNDS = derive_bounds(LIMITS, 16)


def refusal(**tensors: Any) -> str:
    with pytest.raises(InvalidArgument) as caught:
        check_bounds({name: array(value) for name, value in tensors.items()}, BOUNDS)
    return str(caught.value).removeprefix("[invalid_argument] ")


def wait_for(gate: threading.Event) -> None:
    assert gate.wait(30)


def many_messages(count: int) -> str:
    roles = ("user", "assistant")
    return json.dumps([{"role": roles[i % 2], "content": ""} for i in range(count)])


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (
            {"messages": many_messages(200_001)},
            "messages: 7100033 bytes, at most 1048576 allowed: the context is 4096 tokens",
        ),
        (
            {"text_input": "a" * 300_000},
            "text_input: 300000 bytes, at most 262144 allowed: the context is 4096 tokens",
        ),
        (
            {"bad_words": ["x"] * 20_000},
            f"bad_words: 20000 values, at most {MAX_WORDS} allowed",
        ),
        ({"stop_words": [""] * 1025}, f"stop_words: 1025 values, at most {MAX_WORDS} allowed"),
        (
            {"embedding_bias_weights": [0.5] * 5000},
            f"embedding_bias_weights: 5000 values, at most {MAX_WORDS} allowed",
        ),
        (
            {"bad_words": ["x" * 70_000]},
            f"bad_words: 70000 bytes, at most {MAX_WORD_BYTES} allowed",
        ),
    ],
)
def test_too_much_is_refused_with_what_is_allowed(tensors: dict[str, Any], says: str) -> None:
    assert refusal(**tensors) == says


def test_eight_million_ids_are_never_made_a_list() -> None:
    ids = np.zeros((1, 8_000_000), np.int32)
    with pytest.raises(InvalidArgument, match=r"8000000 tokens, but the context is 4096 tokens"):
        check_bounds({"input_ids": ids}, BOUNDS)


@pytest.mark.parametrize("context", [2, 512, 4096, 131_072])
def test_the_longest_text_that_fits_is_within_the_bounds(context: int) -> None:
    """Sixteen four-byte characters a token; and a message a token, escaped."""
    limits = ExecutorLimits(max_context=context, vocab_size=9, max_batch_size=1)
    bounds = derive_bounds(limits, 16 if context < 10_000 else 4)
    longest = 16 if context < 10_000 else 4
    text = "𠮷" * (longest * (context - 1))
    assert check_bounds({"text_input": array(text)}, bounds) == len(text.encode())
    turns = json.dumps([{"role": "assistant", "content": "𠮷"}] * (context // 4))
    assert check_bounds({"messages": array(turns)}, bounds) == len(turns)


def test_more_messages_than_tokens_are_refused(bench: Bench) -> None:
    error = str(bench.ask(messages=many_messages(65)).error)
    assert error.endswith("messages: 65, at most 63 allowed: the context is 64 tokens")


def test_a_full_queue_is_told_before_anything_is_read(bench: Bench) -> None:
    for _ in range(6):
        bench.ask(text_input="a")
    assert "[resource_exhausted]" in str(bench.ask(messages="{").error)


def test_a_small_prompt_does_not_wait_for_a_large_one() -> None:
    intake, gate, done = Intake(1), threading.Event(), threading.Event()
    for _ in range(3):
        intake.submit(LARGE_BYTES, lambda: wait_for(gate))
    intake.submit(LARGE_BYTES - 1, done.set)
    assert done.wait(30)
    gate.set()
    intake.close()


@pytest.fixture
def slow(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Prompts are tokenised once this is set."""
    gate = threading.Event()

    def wait_and_build(*given: Any) -> Prompt:
        wait_for(gate)
        return build_prompt(*given)

    monkeypatch.setattr("llmjp_runtime.front.service.build_prompt", wait_and_build)
    return gate


def test_a_request_can_be_stopped_while_it_is_tokenised(
    bench: Bench, slow: threading.Event
) -> None:
    responder = bench.send("mine", text_input="首都は")
    assert bench.ask("mine", stop=True).error is None
    slow.set()
    responder.wait()
    assert responder.last("finish_reason") == "cancelled"
    assert bench.executor.requests == []


def test_a_deadline_counts_from_the_arrival(bench: Bench, slow: threading.Event) -> None:
    responder = bench.send(timeout_us=1, text_input="首都は", stream=True)
    (ticket,) = bench.service._requests.list_tickets()
    bench.executor.wait_for(lambda: ticket.ended_early is not None)
    slow.set()
    responder.wait()
    assert responder.last("finish_reason") == "deadline"
    assert responder.last("num_output_tokens") == 0
    assert bench.executor.requests == []


def test_no_reply_is_longer_than_the_server_allows(tokenizer: TextTokenizer) -> None:
    bench = Bench(tokenizer, max_tokens=5)
    silent, asking = bench.ask(text_input="首都は"), bench.ask(text_input="首都は", max_tokens=9)
    for key, responder in (("r1", silent), ("r2", asking)):
        bench.reply(key, "東京", FinishReason.LENGTH)
        responder.wait()
    assert [request.sampling.max_tokens for request in bench.executor.requests] == [5, 5]
    assert "warnings" not in silent.sent[0][0]
    assert asking.last("warnings") == "max_tokens: this server generates at most 5"
    bench.service.close()


@pytest.mark.parametrize("timeout_us", [0, 3_600_000_000])
def test_no_reply_takes_longer_than_the_server_allows(
    tokenizer: TextTokenizer, timeout_us: int
) -> None:
    bench = Bench(tokenizer, max_reply_s=0.01)
    responder = bench.ask(text_input="首都は", timeout_us=timeout_us)
    responder.wait()
    assert responder.last("finish_reason") == "deadline"
    bench.service.close()


def test_a_running_request_goes_on_beside_refusals(bench: Bench) -> None:
    running = bench.ask(text_input="首都は")
    assert bench.ask(input_ids=[9] * 64).error is not None
    bench.reply("r1", REPLY)
    running.wait()
    assert running.text() == REPLY
