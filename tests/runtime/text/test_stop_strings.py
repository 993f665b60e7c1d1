from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from unicodedata import normalize

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmjp_runtime.text.errors import InvalidStops
from llmjp_runtime.text.stop_strings import (
    MARKS,
    MAX_STOP_CHARACTERS,
    StopMatcher,
    check_stop_length,
)
from tests.runtime.text.texts import chunks as divided
from tests.runtime.text.texts import cuts

if TYPE_CHECKING:
    from collections.abc import Sequence

Form = Literal["NFC", "NFD"]

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
    check_stop_length(["a" * MAX_STOP_CHARACTERS])
    with pytest.raises(InvalidStops, match=f"{MAX_STOP_CHARACTERS + 1} .*{MAX_STOP_CHARACTERS}"):
        check_stop_length(["a" * MAX_STOP_CHARACTERS, "b"])


# Unicode


def until_equivalent_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """The rule itself: whole characters that are canonically equivalent to a stop string."""
    wanted = {normalize("NFD", stop) for stop in stops if stop}
    for begin in range(len(text)):
        for end in range(begin + 1, len(text) + 1):
            if normalize("NFD", text[begin:end]) in wanted:
                return text[:begin], True
    return text, False


letters = st.sampled_from(
    ["か", "が", "\u3099", "e", "é", "\u0301", "ệ", "\u212b", "Å", "한", "ᄒ"]
)
some_letters = st.lists(letters, max_size=12).map("".join)


@example("\u0301\u3099", ["\u3099\u0301"], [])
@example("か\u0301\u3099", ["が\u0301"], [1])
@given(some_letters, st.lists(st.lists(letters, max_size=3).map("".join), max_size=4), cuts)
@settings(max_examples=1000, deadline=None)
def test_any_chunking_stops_at_what_is_canonically_equivalent(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    assert run(StopMatcher(stops), chunks(text, cuts)) == until_equivalent_stop(text, stops)


@pytest.mark.parametrize("stop", ["ががんぼ", "プール", "café", "Việt", "Å", "神", "한글", "ﾊﾟﾝ"])
@pytest.mark.parametrize("of_stop", ["NFC", "NFD"])
@pytest.mark.parametrize("of_text", ["NFC", "NFD"])
def test_a_stop_string_meets_every_spelling_of_it(stop: str, of_stop: Form, of_text: Form) -> None:
    text = normalize(of_text, f"前{stop}後")
    for fed in ([text], list(text)):
        assert run(StopMatcher([normalize(of_stop, stop)]), fed) == ("前", True)


@pytest.mark.parametrize(("text", "stop"), [("がく", "か"), ("é", "e"), ("：", ":"), ("①", "1")])
def test_what_only_looks_alike_is_no_stop(text: str, stop: str) -> None:
    assert run(StopMatcher([stop]), [text]) == (text, False)


def test_marks_stop_and_never_leave() -> None:
    first, second = chr(MARKS[0]), chr(MARKS[1])
    matcher = StopMatcher([], [f"a{first}"])
    fed = [f"{second}a", "b", f"a{second}a", first]
    assert [matcher.feed(text) for text in fed] == [
        ("", False),
        ("ab", False),
        ("a", False),
        ("", True),
    ]
    matcher = StopMatcher([], [f"{first}b"])
    assert matcher.feed(f"a{first}") == ("a", False)
    assert matcher.flush() == ("", False)
