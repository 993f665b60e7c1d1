from __future__ import annotations

import json

import pytest

from llmjp_runtime.text.errors import InvalidMessages, InvalidText, InvalidUtf8
from llmjp_runtime.text.messages import Message, decode_utf8, parse_messages

SECRET = "ひみつ"
USER = {"role": "user", "content": SECRET}
ASSISTANT = {"role": "assistant", "content": SECRET}
SYSTEM = {"role": "system", "content": SECRET}


@pytest.mark.parametrize(
    "turns", [[USER], [SYSTEM, USER], [USER, ASSISTANT, USER], [SYSTEM, USER, USER]]
)
def test_conversations(turns: list[dict[str, str]]) -> None:
    messages = parse_messages(json.dumps(turns))
    assert [{"role": m.role, "content": m.content} for m in messages] == turns


def test_an_escaped_emoji_is_one_character() -> None:
    text = r'[{"role": "user", "content": "\ud83c\udf63"}]'
    assert parse_messages(text) == (Message("user", "🍣"),)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"role": "user", "content": SECRET}, "expected a JSON list .* found an object"),
        (None, "found null"),
        ("x", "found a string"),
        ([], "empty"),
        ([SECRET], r"messages\[0\]: expected .* found a string"),
        ([USER, [USER]], r"messages\[1\]: expected .* found a list"),
        ([{"content": SECRET}], r"messages\[0\]: role is missing"),
        ([{"role": "user"}], r"messages\[0\]: content is missing"),
        ([USER | {"name": SECRET}], r"messages\[0\]: unknown key 'name'; allowed: role, content"),
        ([USER | {"role": "tool"}], r"\[0\].role: expected system, user or assistant, .* 'tool'"),
        ([USER | {"role": None}], r"messages\[0\].role: .* found null"),
        ([USER | {"content": None}], r"messages\[0\].content: expected a string, found null"),
        ([USER | {"content": 3}], "found a number"),
        ([USER | {"content": True}], "found a boolean"),
        ([USER | {"content": [{"type": "text", "text": SECRET}]}], "found a list .text only"),
        ([USER, SYSTEM, USER], r"messages\[1\].role: system is allowed at index 0 only"),
        ([USER, ASSISTANT], r"messages\[1\].role: the last message must be user, found assistant"),
        ([SYSTEM], r"messages\[0\].role: the last message must be user"),
        ([USER | {"content": "\ud83d" + SECRET}], r"messages\[0\].content: a lone surrogate"),
    ],
)
def test_what_is_refused(value: object, says: str) -> None:
    with pytest.raises(InvalidMessages, match=says) as caught:
        parse_messages(json.dumps(value))
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON at line 1 column 1"),
        ('[{"role": "user",\n "content": ひみつ}]', "not JSON at line 2 column 13"),
        ("[" * 100_000, "beyond all measure"),
        ("[" + "9" * 10_000 + "]", "beyond all measure"),
    ],
)
def test_what_is_not_json(text: str, says: str) -> None:
    with pytest.raises(InvalidMessages, match=says) as caught:
        parse_messages(text)
    assert SECRET not in str(caught.value)


def test_a_long_role_does_not_make_a_long_message() -> None:
    with pytest.raises(InvalidMessages) as caught:
        parse_messages(json.dumps([USER | {"role": "x" * 10_000}]))
    assert len(str(caught.value)) < 200


def test_utf8() -> None:
    assert decode_utf8("text_input", "日本🍣".encode()) == "日本🍣"


@pytest.mark.parametrize(("raw", "at"), [(b"ab\xff", 2), (b"\xed\xa0\x80", 0), (b"a\xe3\x81", 1)])
def test_what_is_not_utf8(raw: bytes, at: int) -> None:
    with pytest.raises(InvalidUtf8, match=f"text_input: not UTF-8 at byte {at}"):
        decode_utf8("text_input", raw)


def test_requests_errors_are_value_errors() -> None:
    assert issubclass(InvalidText, ValueError)
