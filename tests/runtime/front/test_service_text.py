"""The text of requests and replies, through the whole service."""

from __future__ import annotations

import json

import pytest

from llmjp_runtime.executor.protocol import FinishReason
from llmjp_runtime.front.prompt import DROPPED_SYSTEM_MESSAGE
from tests.runtime.front.service_bench import REPLY, Bench


@pytest.mark.parametrize("reply", [" the sea.", "    return x + 1", " 海。"])
def test_a_reply_keeps_its_leading_spaces(bench: Bench, reply: str) -> None:
    alone = bench.ask(text_input="I like")
    whole = bench.ask(text_input="I like", exclude_input_in_output=False)
    for key in ("r1", "r2"):
        bench.reply(key, reply)
    alone.wait()
    whole.wait()
    assert (alone.text(), whole.text()) == (reply, f"I like{reply}")


@pytest.mark.parametrize("stop", ["<EOD|LLM-jp>", "。<EOD|LLM-jp>", "<EOD|LLM-jp>\n", "</s>"])
def test_special_tokens_are_stop_strings(bench: Bench, stop: str) -> None:
    """Though they have no text; the rest of a stop string is text, as everywhere."""
    responder = bench.ask(text_input="首都は", stop_words=["九", stop], end_id=999)
    (token,) = {7, 2} & {*bench.tokenizer.encode_prompt(stop)[1:]}
    ids = [*bench.ids("東京。"), token, *bench.ids("\n続き")]
    for count, token_id in enumerate(ids, 1):
        bench.executor.event("r1", token_id, num_generated=count)
    responder.wait()
    assert responder.text() == "東京。".removesuffix(stop[:1])
    assert responder.last("finish_reason") == "stop"
    bench.executor.wait_cancelled("r1")


def test_a_special_token_that_is_no_stop_string_has_no_text(bench: Bench) -> None:
    responder = bench.ask(text_input="首都は", stop_words=["<EOD|LLM-jp>", "<MASK|LLM-jp>x"])
    bench.executor.event("r1", *bench.ids("東京"), 3, *bench.ids("です"), num_generated=3)
    bench.executor.event("r1", 3, finish_reason=FinishReason.STOP, num_generated=4)
    responder.wait()
    assert responder.text() == "東京です"


def test_a_parameter_that_nothing_acts_on_is_refused(bench: Bench) -> None:
    responder = bench.ask(text_input="首都は", parameters={"traceparent": "", "temprature": 1})
    responder.wait()
    assert "did you mean temperature?" in str(responder.error)
    responder = bench.ask(text_input="首都は", timeout_us=(1 << 64) - 1)
    responder.wait()
    assert "timeout: must be >= 0" in str(responder.error)


@pytest.mark.parametrize("stream", [True, False])
def test_a_system_message_that_the_template_drops_is_said_once(bench: Bench, stream: bool) -> None:
    turns = [{"role": "system", "content": "短く。"}, {"role": "user", "content": "首都は？"}]
    responder = bench.ask(messages=json.dumps(turns), stream=stream)
    bench.reply("r1", REPLY)
    responder.wait()
    warned = [outputs["warnings"] for outputs, _ in responder.sent if "warnings" in outputs]
    assert [each.tolist() for each in warned] == [[[DROPPED_SYSTEM_MESSAGE.encode()]]]
    assert "warnings" in responder.sent[0][0]


@pytest.mark.parametrize("system", [None, "", " \n"])
def test_nothing_is_said_where_nothing_is_dropped(bench: Bench, system: str | None) -> None:
    turns = [] if system is None else [{"role": "system", "content": system}]
    responder = bench.ask(messages=json.dumps([*turns, {"role": "user", "content": "首都は？"}]))
    bench.reply("r1", REPLY)
    responder.wait()
    assert "warnings" not in responder.sent[0][0]


def test_an_end_id_that_is_no_id_is_refused_by_its_name(bench: Bench) -> None:
    responder = bench.ask(text_input="首都は", end_id=1_000_000)
    responder.wait()
    assert "end_id: must be in [0, " in str(responder.error)


@pytest.mark.parametrize("stream", [True, False])
def test_the_likeliest_tokens_come_with_their_texts(bench: Bench, stream: bool) -> None:
    """One row a token; half a character is U+FFFD, an end token has no text."""
    responder = bench.ask(text_input="首都は", top_log_probs=2, stream=stream)
    assert (bench.executor.requests[0].num_top, bench.executor.requests[0].log_probs) == (2, True)
    tokyo, eos = bench.ids("東京")[0], next(iter(bench.tokenizer.eos_ids))
    half = bench.tokenizer.pieces.index(b"\xf0")
    bench.executor.event(
        "r1", tokyo, num_generated=1, log_probs=(-0.5,), top=(((tokyo, -0.5), (eos, -1.0)),)
    )
    bench.executor.event(
        "r1", half, num_generated=2, log_probs=(-2.0,), top=(((tokyo, -0.25), (half, -2.0)),)
    )
    bench.executor.event("r1", finish_reason=FinishReason.STOP, num_generated=3, log_probs=())
    responder.wait()
    rows = [
        (ids, values, [text.decode() for text in texts])
        for outputs, _ in responder.sent
        for ids, values, texts in zip(
            outputs["top_ids"][0].tolist(),
            outputs["top_log_probs"][0].tolist(),
            outputs["top_tokens"][0].tolist(),
            strict=True,
        )
    ]
    text = bench.tokenizer.spell(tokyo)
    assert rows == [
        ([tokyo, eos], [-0.5, -1.0], [text, ""]),
        ([tokyo, half], [-0.25, -2.0], [text, "\ufffd"]),
    ]
    texts = [t for outputs, _ in responder.sent for t in outputs["output_tokens"][0].tolist()]
    assert texts == [text.encode(), "\ufffd".encode()]


def test_no_more_than_twenty_are_told(bench: Bench) -> None:
    error = str(bench.ask(text_input="a", top_log_probs=21).error)
    assert error == "[invalid_argument] top_log_probs: must be in [0, 20], found 21"


def test_nothing_is_told_of_places_unless_it_is_asked_for(bench: Bench) -> None:
    responder = bench.ask(text_input="首都は")
    bench.reply("r1", REPLY)
    responder.wait()
    assert not {"output_tokens", "top_ids", "top_tokens", "top_log_probs"} & {*responder.sent[0][0]}
