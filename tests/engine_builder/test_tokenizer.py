"""Judgement of a tokenizer's files: what the builder takes, the server loads, and no more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import BadConfig, BuilderError, MissingFile, UnsupportedRequest
from llmjp_builder.contracts.judgement.tokenizer import list_vocabulary
from llmjp_builder.contracts.judgement.tokenizer_files import parse_tokenizer_files
from llmjp_builder.tokenizer import find_tokenizer_files
from llmjp_runtime.text.added_tokens import load_parsing_tokenizer
from llmjp_runtime.text.errors import TextError
from llmjp_runtime.text.tokenizer import TextTokenizer
from tests.runtime.text import small_tokenizer, tokenizer_kinds

if TYPE_CHECKING:
    from pathlib import Path

Object = dict[str, Any]
CODE = {"auto_map": {"AutoTokenizer": ["tokenization_x.XTokenizer", None]}}


@pytest.mark.parametrize("kind", tokenizer_kinds.KINDS)
def test_every_kind_that_the_server_loads_is_taken(kind: str, tmp_path: Path) -> None:
    tokenizer_kinds.write(tmp_path, kind)
    TextTokenizer.load(tmp_path)
    find_tokenizer_files(tmp_path, 200_000)


def changed(**changes: Any) -> Object:
    return {"tokenizer": small_tokenizer.pipeline() | changes}


def configured(**changes: Any) -> Object:
    return {"tokenizer_config": small_tokenizer.config() | changes}


def with_model(**changes: Any) -> Object:
    pipeline = small_tokenizer.pipeline()
    return {"tokenizer": pipeline | {"model": pipeline["model"] | changes}}


REFUSED: dict[str, tuple[Object, type[BuilderError], str]] = {
    "no decoder": (changed(decoder=None), UnsupportedRequest, "decoder [] is not supported"),
    "WordPiece": (
        changed(decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}),
        UnsupportedRequest,
        "decoder [WordPiece] is not supported",
    ),
    "CTC": (
        changed(decoder={"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|"}),
        UnsupportedRequest,
        "decoder [CTC] is not supported",
    ),
    "steps in another order": (
        changed(decoder={"type": "Sequence", "decoders": [{"type": "Fuse"}]}),
        UnsupportedRequest,
        "decoder [Fuse] is not supported",
    ),
    "no vocabulary": (changed(model={}), BadConfig, "it has no vocabulary"),
    "a model of no kind": (with_model(type="Other"), BadConfig, "not a tokenizer"),
    "scores that are none": (with_model(vocab=[["a", "b"]]), BadConfig, "it has no vocabulary"),
    "a broken pattern": (
        changed(normalizer={"type": "Replace", "pattern": {"Regex": "("}, "content": ""}),
        BadConfig,
        "not a tokenizer",
    ),
    "added tokens without text": (changed(added_tokens=[{"id": 0}]), BadConfig, "id and content"),
    "a name of no token": (
        configured(bos_token="<no>"),
        BadConfig,
        "bos_token '<no>' is not in tokenizer.json",
    ),
    "an id of two": (
        configured(added_tokens_decoder={"9": {"content": "<pad>"}}),
        BadConfig,
        "added_tokens_decoder has '<pad>' as 9, tokenizer.json makes it 0",
    ),
    "an id beyond the next": (
        configured(added_tokens_decoder={"300": {"content": "<new>"}}),
        BadConfig,
        "added_tokens_decoder has '<new>' as 300",
    ),
    "code that numbers otherwise": (
        configured(**CODE, added_tokens_decoder={"9": {"content": "<pad>"}}),
        BadConfig,
        "its code tokenization_x.XTokenizer is not run",
    ),
    "a template that is none": (configured(chat_template=3), BadConfig, "chat_template is a int"),
    "a broken expression": (
        configured(chat_template="{{ messages[ }}"),
        BadConfig,
        "chat template: not valid Jinja",
    ),
    "an unknown filter": (
        configured(chat_template="{{ messages | nothing }}"),
        BadConfig,
        "chat template: not valid Jinja",
    ),
    "a break inside of a macro": (
        configured(
            chat_template="{% for m in x %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}"
        ),
        BadConfig,
        "chat template: not valid Jinja",
    ),
    "an unknown tag": (
        configured(chat_template="{% do messages.pop() %}"),
        UnsupportedRequest,
        "the tag {% do %} is unknown",
    ),
    "end ids that are none": (
        {"generation_config": {"eos_token_id": ["</s>"]}},
        BadConfig,
        "eos_token_id must be an id",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_server_refuses_is_refused_by_name(name: str, tmp_path: Path) -> None:
    files, error, words = REFUSED[name]
    small_tokenizer.write(tmp_path, **files)
    with pytest.raises(error) as raised:
        find_tokenizer_files(tmp_path, 1000)
    assert words in str(raised.value)
    with pytest.raises(TextError):
        TextTokenizer.load(tmp_path)


@pytest.mark.parametrize("vocab_size", [275, 274])
def test_ids_that_the_model_has_no_rows_for(vocab_size: int, tmp_path: Path) -> None:
    small_tokenizer.write(tmp_path)
    num_entries = TextTokenizer.load(tmp_path).num_entries
    assert num_entries == 275
    if vocab_size >= num_entries:
        find_tokenizer_files(tmp_path, vocab_size)
        return
    with pytest.raises(BadConfig, match="token id 274 is beyond the model's vocabulary of 274"):
        find_tokenizer_files(tmp_path, vocab_size)


added = st.tuples(
    st.sampled_from(["<pad>", "<end>", "<n0>", "<n1>", "<n2>", "a"]),
    st.sampled_from([0, 1, 3, 275, 276, 277, 280, 500]),
)


@given(st.permutations(range(5)), st.lists(added, max_size=4), st.lists(added, max_size=3))
@settings(max_examples=300, deadline=None)
def test_ids_are_those_of_the_library(
    order: list[int], more: list[tuple[str, int]], declared: list[tuple[str, int]]
) -> None:
    """In whatever order tokenizer.json adds tokens, whatever ids it and the config give them."""
    pipeline, config = small_tokenizer.pipeline(), small_tokenizer.config()
    tokens = [pipeline["added_tokens"][i] for i in order]
    tokens += [tokens[0] | {"content": content, "id": token_id} for content, token_id in more]
    listed = {str(token_id): {"content": content} for content, token_id in declared}
    files = {
        "tokenizer.json": json.dumps(pipeline | {"added_tokens": tokens}).encode(),
        "tokenizer_config.json": json.dumps(config | {"added_tokens_decoder": listed}).encode(),
    }
    parsed = parse_tokenizer_files(files, "m")
    try:
        found = list_vocabulary(parsed, "m")
    except BadConfig:
        with pytest.raises(TextError):
            load_parsing_tokenizer(parsed)
        return
    assert found == load_parsing_tokenizer(parsed).get_vocab(with_added_tokens=True)


def test_code_of_a_tokenizer_is_not_needed_beside_its_fast_file(tmp_path: Path) -> None:
    """Whatever the code would do: it raises here, and nobody runs it."""
    small_tokenizer.write(tmp_path, **configured(**CODE))
    (tmp_path / "tokenization_x.py").write_text("raise SystemExit('executed')")
    assert "tokenization_x.py" not in find_tokenizer_files(tmp_path, 1000)
    assert TextTokenizer.load(tmp_path).num_entries == 275


@pytest.mark.parametrize(
    ("config", "words"),
    [(CODE, "(tokenization_x.XTokenizer), which is not executed"), ({}, "needs the tokenizer")],
)
def test_no_fast_file(config: Object, words: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(MissingFile) as raised:
        find_tokenizer_files(tmp_path, 1000)
    assert str(raised.value).startswith(f"{tmp_path}: no tokenizer.json: ")
    assert words in str(raised.value)
