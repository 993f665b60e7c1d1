"""The tokenizer's files of a checkpoint or artefact, parsed and checked for form. Pure.

`tokenizer` judges their sense.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.errors import BadConfig, MissingFile

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]

PIPELINE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
TOKENS_MAP = "special_tokens_map.json"
GENERATION = "generation_config.json"
TEMPLATE = "chat_template.jinja"
FILES = (PIPELINE, CONFIG, TOKENS_MAP, GENERATION, TEMPLATE)
"""Names of the files that are read; all but the first may be missing."""


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
    own_code: str | None
    """The class that `auto_map` names for the tokenizer; it is never executed."""


def parse_tokenizer_files(files: Mapping[str, bytes], where: str) -> TokenizerFiles:
    """Parse the contents of `FILES`, by name.

    Args:
        files: those that are there.
        where: their folder or repository, for messages.

    Raises:
        MissingFile: tokenizer.json is not there.
        BadConfig: a file has the wrong form; names the file.
    """
    reader = _Reader(files, where)
    config = reader.read_object(CONFIG)
    own_code = _find_own_code(config)
    if PIPELINE not in files:
        raise MissingFile(f"{where}: no {PIPELINE}: {_explain_missing(own_code)}")
    named = _parse_named_tokens(config)
    if "added_tokens_decoder" not in config:  # as in transformers: the older file counts, and wins
        named |= _parse_named_tokens(reader.read_object(TOKENS_MAP))
    return TokenizerFiles(
        pipeline=reader.read_object(PIPELINE),
        named_tokens=named,
        declared_tokens=_parse_declared_tokens(f"{where}/{CONFIG}", config),
        extra_tokens=_parse_extra_tokens(config),
        chat_template=_read_chat_template(reader, config),
        generation_eos=_read_generation_eos(reader),
        own_code=own_code,
    )


def _explain_missing(own_code: str | None) -> str:
    if own_code is None:
        return f"an artefact needs the tokenizer ({PIPELINE} and {CONFIG}) beside the weights"
    return (
        f"{CONFIG} names code of the checkpoint instead ({own_code}), which is not executed: save "
        "the fast tokenizer beside it"
    )


def _find_own_code(config: Object) -> str | None:
    match config.get("auto_map"):
        case {"AutoTokenizer": str(name) | [str(name), *_] | [None, str(name)]}:
            return name
        case {"AutoTokenizer": found} if found:
            return repr(found)
        case _:
            return None


@dataclass(frozen=True, slots=True)
class _Reader:
    files: Mapping[str, bytes]
    where: str

    def read_text(self, name: str) -> str | None:
        """Return the text of a file; None if there is none."""
        if name not in self.files:
            return None
        try:
            return self.files[name].decode()
        except UnicodeDecodeError as exc:
            raise BadConfig(f"{self.where}/{name}: cannot be read as UTF-8 text ({exc})") from exc

    def read_object(self, name: str) -> Object:
        """Return the JSON object in a file; empty if there is no file."""
        text = self.read_text(name)
        if text is None:
            return {}
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise BadConfig(f"{self.where}/{name}: not JSON ({exc})") from exc
        if not isinstance(value, dict):
            raise BadConfig(
                f"{self.where}/{name}: expected a JSON object, found {type(value).__name__}"
            )
        return value


def _parse_named_tokens(config: Object) -> dict[str, str]:
    """Parse values: strings, or objects with the string as `content` (an AddedToken)."""
    tokens = {}
    for name, value in config.items():
        content = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(content, str):
            tokens[name] = content
    return tokens


def _parse_declared_tokens(path: str, config: Object) -> dict[int, Object]:
    match config.get("added_tokens_decoder", {}):
        case dict() as declared if all(
            token_id.isdecimal()
            and isinstance(token, dict)
            and isinstance(token.get("content"), str)
            for token_id, token in declared.items()
        ):
            return {int(token_id): token for token_id, token in declared.items()}
        case _:
            raise BadConfig(
                f"{path}: added_tokens_decoder must map ids to objects with the token as content"
            )


def _parse_extra_tokens(config: Object) -> tuple[str, ...]:
    """Parse the list under its newer or older name."""
    value = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    tokens = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        raise BadConfig(
            f"{CONFIG}: further special tokens must be a list or an object, found {value!r}"
        )
    contents = (t.get("content") if isinstance(t, dict) else t for t in tokens)
    return tuple(content for content in contents if isinstance(content, str))


def _read_chat_template(reader: _Reader, config: Object) -> str | None:
    """Read the template: a file wins over the key, as in transformers; of several, the default."""
    from_file = reader.read_text(TEMPLATE)
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
            where = f"{reader.where}/{CONFIG}"
            raise BadConfig(f"{where}: chat_template is a {type(other).__name__}, not text")


def _find_default_template(templates: list[Any]) -> str | None:
    for entry in templates:
        match entry:
            case {"name": "default", "template": str() as template}:
                return template
            case _:
                pass
    return None


def _read_generation_eos(reader: _Reader) -> tuple[int, ...] | None:
    value = reader.read_object(GENERATION).get("eos_token_id")
    if value is None:
        return None
    ids = value if isinstance(value, list) else [value]
    if not ids or not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
        raise BadConfig(f"{reader.where}/{GENERATION}: eos_token_id must be an id or a list of ids")
    return tuple(ids)
