from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmjp_runtime.text.errors import InvalidStops
from llmjp_runtime.text.stop_strings import MAX_STOP_CHARACTERS, StopMatcher
from tests.runtime.text.texts import chunks as divided
from tests.runtime.text.texts import cuts

if TYPE_CHECKING:
    from collections.abc import Sequence

few_letters = st.text("ab\n", max_size=30)
stops_of_few_letters = st.lists(st.text("ab\n", max_size=6), max_size=5)


def until_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """The rule itself, over the whole text."""
    begins = [text.index(stop) for stop in stops if stop and stop in text]
    return (text[: min(begins)], True) if begins else (text, False)


def chunks(text: str, cuts: list[int]) -> list[str]:
    return ["".join(chunk) for chunk in divided(text, cuts)]


def run(matcher: StopMatcher, fed: Sequence[str]) -> tuple[str, bool]:
    given_text = ""
    for chunk in fed:
        text, stopped = matcher.feed(chunk)
        given_text += text
        if stopped:
            return given_text, True
    rest, stopped = matcher.flush()
    return given_text + rest, stopped


@given(few_letters, stops_of_few_letters, cuts)
@settings(max_examples=1000, deadline=None)
def test_any_chunking_stops_where_a_search_of_the_whole_text_does(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    assert run(StopMatcher(stops), chunks(text, cuts)) == until_stop(text, stops)


@given(few_letters, stops_of_few_letters, cuts)
@settings(max_examples=500, deadline=None)
def test_nothing_is_held_back_that_cannot_matter(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    matcher = StopMatcher(stops)
    fed = given_text = ""
    for chunk in chunks(text, cuts):
        out, stopped = matcher.feed(chunk)
        fed, given_text = fed + chunk, given_text + out
        if stopped:
            return
        held = fed[len(given_text) :]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


def test_a_stop_string_that_tokens_cut() -> None:
    matcher = StopMatcher(["###", "。\n"])
    fed = ["はい", "。", "#", "#", "いいえ", "。", "\n続き"]
    assert [matcher.feed(text) for text in fed] == [
        ("はい", False),
        ("", False),
        ("。", False),
        ("", False),
        ("##いいえ", False),
        ("", False),
        ("", True),
    ]


def test_an_earlier_beginning_wins_over_an_earlier_end() -> None:
    matcher = StopMatcher(["abcd", "bc"])
    assert matcher.feed("abc") == ("", False)
    assert matcher.feed("d") == ("", True)


def test_the_one_that_was_complete_stands_when_the_earlier_one_fails() -> None:
    matcher = StopMatcher(["abcd", "bc"])
    assert matcher.feed("abc") == ("", False)
    assert matcher.feed("x") == ("a", True)


def test_the_one_that_was_complete_stands_at_the_end() -> None:
    matcher = StopMatcher(["abcd", "bc"])
    matcher.feed("abc")
    assert matcher.flush() == ("a", True)


def test_of_two_that_begin_together_the_shorter_saves_a_step() -> None:
    assert StopMatcher(["\n\n", "\n"]).feed("a\n") == ("a", True)


def test_what_only_looked_like_a_stop_string_is_given_at_the_end() -> None:
    matcher = StopMatcher(["###"])
    assert matcher.feed("a##") == ("a", False)
    assert matcher.flush() == ("##", False)


@pytest.mark.parametrize("stops", [[], [""], ["", ""]])
def test_empty_stop_strings_stop_nothing(stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    assert matcher.feed("abc") == ("abc", False)
    assert matcher.flush() == ("", False)


def test_stop_strings_beyond_the_limit_are_refused_with_both_numbers() -> None:
    StopMatcher(["a" * MAX_STOP_CHARACTERS])
    with pytest.raises(InvalidStops, match=f"{MAX_STOP_CHARACTERS + 1} .*{MAX_STOP_CHARACTERS}"):
        StopMatcher(["a" * MAX_STOP_CHARACTERS, "b"])
