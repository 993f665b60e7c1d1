"""Reads the tokenizer files of a checkpoint or artefact; the only I/O of this package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_runtime.text.errors import UnusableTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFiles:
    """The contents of the files, checked for form and not yet for sense."""

    pipeline: Object
    """tokenizer.json."""
    named_tokens: Mapping[str, str]
    """`bos_token`, `eos_token`, ... to the token's text; also variables of the chat template."""
    declared_tokens: Mapping[int, Object]
    """`added_tokens_decoder` of tokenizer_config.json: content and flags by id."""
    extra_tokens: tuple[str, ...]
    """Further special tokens, by their text."""
    chat_template: str | None
    generation_eos: tuple[int, ...] | None
    """`eos_token_id` of generation_config.json, which may be a list; None where it says nothing."""


def read_tokenizer_files(folder: Path) -> TokenizerFiles:
    """Read the files in `folder`; tokenizer.json must be there, the others may be missing.

    Raises:
        UnusableTokenizer: a file cannot be read or has the wrong form; names the file.
    """
    if not (folder / "tokenizer.json").is_file():
        raise UnusableTokenizer(
            f"{folder / 'tokenizer.json'}: missing; expected the tokenizer's files"
        )
    config_path = folder / "tokenizer_config.json"
    config = _read_json_object(config_path)
    named = _parse_named_tokens(config)
    if "added_tokens_decoder" not in config:  # as in transformers: the older file counts, and wins
        named |= _parse_named_tokens(_read_json_object(folder / "special_tokens_map.json"))
    return TokenizerFiles(
        pipeline=_read_json_object(folder / "tokenizer.json"),
        named_tokens=named,
        declared_tokens=_parse_declared_tokens(config_path, config),
        extra_tokens=_parse_extra_tokens(config),
        chat_template=_read_chat_template(folder, config),
        generation_eos=_read_generation_eos(folder / "generation_config.json"),
    )


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise UnusableTokenizer(f"{path}: cannot be read as UTF-8 text ({exc})") from exc


def _read_json_object(path: Path) -> Object:
    """Read the JSON object in a file; empty if there is no file."""
    text = _read_text(path)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UnusableTokenizer(f"{path}: not JSON ({exc})") from exc
    if not isinstance(value, dict):
        raise UnusableTokenizer(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _parse_named_tokens(config: Object) -> dict[str, str]:
    """Parse values: strings, or objects with the string as `content` (an AddedToken)."""
    tokens = {}
    for name, value in config.items():
        content = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(content, str):
            tokens[name] = content
    return tokens


def _parse_declared_tokens(path: Path, config: Object) -> dict[int, Object]:
    match config.get("added_tokens_decoder", {}):
        case dict() as declared if all(
            token_id.isdecimal()
            and isinstance(token, dict)
            and isinstance(token.get("content"), str)
            for token_id, token in declared.items()
        ):
            return {int(token_id): token for token_id, token in declared.items()}
        case _:
            raise UnusableTokenizer(
                f"{path}: added_tokens_decoder must map ids to objects with the token as content"
            )


def _parse_extra_tokens(config: Object) -> tuple[str, ...]:
    """Parse the list under its newer or older name."""
    value = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    tokens = value.values() if isinstance(value, dict) else value
    contents = (t.get("content") if isinstance(t, dict) else t for t in tokens)
    return tuple(content for content in contents if isinstance(content, str))


def _read_chat_template(folder: Path, config: Object) -> str | None:
    """Read the template: a file wins over the key, as in transformers; of several, the default."""
    path = folder / "chat_template.jinja"
    from_file = _read_text(path)
    if from_file is not None:
        return from_file
    match config.get("chat_template"):
        case None:
            return None
        case str() as template:
            return template
        case list() as templates:
            return _find_default_template(templates)
        case _ as other:
            where = folder / "tokenizer_config.json"
            raise UnusableTokenizer(f"{where}: chat_template is a {type(other).__name__}, not text")


def _find_default_template(templates: list[Any]) -> str | None:
    for entry in templates:
        match entry:
            case {"name": "default", "template": str() as template}:
                return template
            case _:
                pass
    return None


def _read_generation_eos(path: Path) -> tuple[int, ...] | None:
    value = _read_json_object(path).get("eos_token_id")
    if value is None:
        return None
    ids = value if isinstance(value, list) else [value]
    if not ids or not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
        raise UnusableTokenizer(f"{path}: eos_token_id must be an id or a list of ids")
    return tuple(ids)
