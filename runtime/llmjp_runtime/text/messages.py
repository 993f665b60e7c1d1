"""A client's `messages`: from bytes of JSON to checked values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llmjp_runtime.text.errors import InvalidMessages, InvalidUtf8

if TYPE_CHECKING:
    from collections.abc import Mapping

Role = Literal["system", "user", "assistant"]

_FORM = "a JSON list of {role, content}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


def decode_utf8(name: str, raw: bytes) -> str:
    """Decode the text of the tensor `name`.

    Raises:
        InvalidUtf8: the bytes are not UTF-8; names the tensor and the offset.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidUtf8(f"{name}: not UTF-8 at byte {exc.start}: send UTF-8 text") from exc


def parse_messages(text: str) -> tuple[Message, ...]:
    """Parse the JSON `text` of a conversation.

    A message has exactly `role` (system, user or assistant) and `content` (a string): templates
    drop unknown roles and keys in silence, so they are refused here. A system message comes first
    or not at all; the last message is the user's.

    Raises:
        InvalidMessages: names the index of the message and what is allowed.
    """
    value = _parse_json(text)
    if not isinstance(value, list):
        raise InvalidMessages(f"messages: expected {_FORM}, found {_describe_type(value)}")
    if not value:
        raise InvalidMessages(
            "messages: empty; expected at least one message, the last of role user"
        )
    messages = tuple(_parse_message(index, item) for index, item in enumerate(value))
    for index, message in enumerate(messages[1:], start=1):
        if message.role == "system":
            raise InvalidMessages(f"messages[{index}].role: system is allowed at index 0 only")
    if messages[-1].role != "user":
        where = f"messages[{len(messages) - 1}].role"
        raise InvalidMessages(f"{where}: the last message must be user, found {messages[-1].role}")
    return messages


def _parse_json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as exc:
        where = f"line {exc.lineno} column {exc.colno}"
        raise InvalidMessages(f"messages: not JSON at {where}; expected {_FORM}") from exc
    except (ValueError, RecursionError) as exc:  # a number of 5000 digits, 1000 brackets deep
        raise InvalidMessages(f"messages: JSON beyond all measure; expected {_FORM}") from exc


def _parse_message(index: int, item: object) -> Message:
    where = f"messages[{index}]"
    if not isinstance(item, dict):
        raise InvalidMessages(f"{where}: expected {{role, content}}, found {_describe_type(item)}")
    _check_keys(where, item)
    content = item["content"]
    if not isinstance(content, str):
        found = _describe_type(content)
        raise InvalidMessages(f"{where}.content: expected a string, found {found} (text only)")
    if not _has_utf8(content):
        raise InvalidMessages(f"{where}.content: a lone surrogate (\\ud800 to \\udfff) is not text")
    return Message(_parse_role(where, item["role"]), content)


def _check_keys(where: str, item: Mapping[str, object]) -> None:
    for key in ("role", "content"):
        if key not in item:
            raise InvalidMessages(f"{where}: {key} is missing; expected {{role, content}}")
    unknown = sorted(item.keys() - {"role", "content"})
    if unknown:
        raise InvalidMessages(f"{where}: unknown key {unknown[0][:40]!a}; allowed: role, content")


def _parse_role(where: str, value: object) -> Role:
    match value:
        case "system" | "user" | "assistant":
            return value
        case str():
            found = f"{value[:40]!a}"
        case _:
            found = _describe_type(value)
    raise InvalidMessages(f"{where}.role: expected system, user or assistant, found {found}")


def _has_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _describe_type(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
