from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmjp_builder.contracts.judgement.decoding import DecodingRules
from llmjp_runtime.executor.protocol import FinishReason, TokenEvent
from llmjp_runtime.front.reply import ReplyAssembler, ReplyPart
from llmjp_runtime.text.detokenizer import Detokenizer
from llmjp_runtime.text.stop_strings import StopMatcher
from tests.runtime.text.texts import chunks, cuts

BYTES = [bytes([byte]) for byte in range(256)]


def assembler(*stops: str) -> ReplyAssembler:
    """Ids are bytes."""
    return ReplyAssembler(Detokenizer(BYTES, DecodingRules(strips_space=True)), StopMatcher(stops))


def events(
    text: str, reason: FinishReason = FinishReason.STOP, *, per_step: int = 1
) -> list[TokenEvent]:
    """What an executor gives for a reply of these bytes; an end id ends it unless by length."""
    ids = tuple(text.encode())
    steps = [ids[i : i + per_step] for i in range(0, len(ids), per_step)] or [()]
    generated = 0
    out = []
    for step in steps:
        generated += len(step)
        log_probs = tuple(-i / 8 for i in step)
        out.append(TokenEvent(token_ids=step, log_probs=log_probs, num_generated=generated))
    if reason is FinishReason.LENGTH:
        last = out.pop()
        out.append(
            TokenEvent(
                token_ids=last.token_ids,
                log_probs=last.log_probs,
                num_generated=last.num_generated,
                finish_reason=reason,
            )
        )
    else:
        out.append(TokenEvent(num_generated=generated + 1, finish_reason=reason))
    return out


texts = st.text(st.sampled_from("あ🍣 a\n#"), max_size=20)
reasons = st.sampled_from([FinishReason.STOP, FinishReason.LENGTH, FinishReason.CANCELLED])


@given(texts, reasons, st.integers(1, 5), cuts)
@settings(max_examples=300, deadline=None)
def test_all_parts_together_are_the_reply_however_events_are_merged(
    text: str, reason: FinishReason, per_step: int, cuts: list[int]
) -> None:
    reply = assembler("never")
    given_events = events(text, reason, per_step=per_step)
    parts = [reply.feed_all(group) for group in chunks(given_events, cuts)]
    ids = tuple(text.encode())
    assert "".join(part.text for part in parts) == text.removeprefix(" ")
    assert tuple(i for part in parts for i in part.output_ids) == ids
    assert [p for part in parts for p in part.log_probs or ()] == [-i / 8 for i in ids]
    assert [part.final for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].finish_reason is reason
    assert parts[-1].num_output_tokens == given_events[-1].num_generated
    assert not any(part.cancel for part in parts)


@given(texts, st.lists(st.text("あ🍣 a\n#", max_size=3), max_size=3), cuts)
@settings(max_examples=300, deadline=None)
def test_merging_changes_nothing_where_a_stop_string_ends_the_reply(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    one_by_one, merged = assembler(*stops), assembler(*stops)
    singles = [one_by_one.feed(event) for event in events(text)]
    parts = [merged.feed_all(group) for group in chunks(events(text), cuts)]
    assert folded(singles) == folded(parts)


def folded(parts: list[ReplyPart]) -> tuple[object, ...]:
    text = "".join(part.text for part in parts)
    ids = tuple(i for part in parts for i in part.output_ids)
    ends = [part for part in parts if part.final]
    assert len(ends) == 1
    end = ends[0]
    return text, ids, end.finish_reason, end.cancel, end.num_output_tokens


def test_a_stop_string_ends_the_reply_and_asks_for_the_cancel() -> None:
    reply = assembler("##")
    part = reply.feed_all(events("はい##いいえ"))
    assert part.text == "はい"
    assert part.finish_reason is FinishReason.STOP
    assert part.cancel
    assert bytes(part.output_ids).decode() == "はい##"
    assert part.num_output_tokens == len(part.output_ids) == len(part.log_probs or ())


def test_events_after_the_end_are_ignored() -> None:
    reply = assembler("a")
    first, *later = events("abc")
    assert reply.feed(first).final
    late = reply.feed_all(later)
    assert (late.text, late.output_ids, late.final, late.cancel) == ("", (), False, False)
    assert late.num_output_tokens == 1


def test_a_stop_string_in_the_last_event_needs_no_cancel() -> None:
    part = assembler("b").feed_all(events("ab", FinishReason.LENGTH))
    assert (part.text, part.finish_reason, part.cancel) == ("a", FinishReason.STOP, False)


def test_a_stop_string_found_only_at_the_end_is_the_reason() -> None:
    part = assembler("abcd", "bc").feed_all(events("abc", FinishReason.LENGTH))
    assert (part.text, part.finish_reason) == ("a", FinishReason.STOP)


def test_what_looked_like_a_stop_string_comes_with_the_last_part() -> None:
    reply = assembler("###")
    parts = [reply.feed(event) for event in events("a##", FinishReason.LENGTH)]
    assert [part.text for part in parts] == ["a", "", "##"]


def test_a_reply_cut_in_a_character_ends_with_the_last_whole_one() -> None:
    ids = tuple("あ🍣".encode())[:-1]
    event = TokenEvent(token_ids=ids, num_generated=6, finish_reason=FinishReason.LENGTH)
    part = assembler().feed(event)
    assert (part.text, part.output_ids) == ("あ", ids)


def test_no_log_probs_where_the_executor_gives_none() -> None:
    assert assembler().feed(TokenEvent(token_ids=(97,), num_generated=1)).log_probs is None


@pytest.mark.parametrize("stops", [(), ("###",)])
def test_an_error_ends_the_reply_with_the_text_so_far(stops: tuple[str, ...]) -> None:
    failing = [*events("a#")[:2], TokenEvent(num_generated=2, error="device lost")]
    part = assembler(*stops).feed_all(failing)
    assert (part.text, part.error, part.final) == ("a#", "device lost", True)
    assert part.finish_reason is None
    assert not part.cancel
