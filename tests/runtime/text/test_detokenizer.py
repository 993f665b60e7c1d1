from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from tokenizers import Tokenizer

from llmjp_builder.contracts.judgement.decoding import DecodingRules
from llmjp_runtime.text.detokenizer import Detokenizer
from tests.runtime.text.small_tokenizer import BEGIN, END, TURN, byte_id
from tests.runtime.text.texts import TEXTS, chunks, cuts, texts

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_runtime.text.tokenizer import TextTokenizer


@pytest.fixture(scope="session")
def reference(real_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(real_folder / "tokenizer.json"))


@pytest.mark.parametrize("text", TEXTS)
def test_one_id_at_a_time_gives_what_the_library_gives_at_once(
    text: str, real: TextTokenizer, reference: Tokenizer
) -> None:
    ids = reference.encode(text).ids
    detokenizer = real.create_detokenizer()
    assert (
        "".join(detokenizer.feed((i,)) for i in ids)
        == reference.decode(ids)
        == text.replace("▁", " ")
    )


def test_any_chunking_gives_what_the_library_gives_at_once(
    real: TextTokenizer, reference: Tokenizer
) -> None:
    @given(text=texts, cuts=cuts)
    @settings(max_examples=300, deadline=None)
    def check(text: str, cuts: list[int]) -> None:
        ids = reference.encode(text, add_special_tokens=False).ids
        feed = real.create_detokenizer().feed
        assert "".join(map(feed, chunks(ids, cuts))) == reference.decode(ids)

    check()


def test_a_character_comes_with_its_last_byte(real: TextTokenizer) -> None:
    detokenizer = real.create_detokenizer()
    assert [detokenizer.feed((i,)) for i in (248, 167, 149, 171)] == ["", "", "", "🍣"]


def test_text_before_an_unfinished_character_is_not_held_back(real: TextTokenizer) -> None:
    assert real.create_detokenizer().feed((18, 248, 167)) == "\n"


def test_an_unfinished_character_at_the_end_is_left_out(real: TextTokenizer) -> None:
    ids = real.encode_prompt("はい。🍣")
    assert real.decode(ids[:-1]) == "はい。"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\n\xf0\x9f\n", "\n\ufffd\n"),
        (b"\xff\xfea", "\ufffd\ufffda"),
        (b"\xe3\x81\xe3\x81\x82", "\ufffdあ"),
        (b"\x80", "\ufffd"),
        (b"\xed\xa0\x80b", "\ufffd\ufffd\ufffdb"),
    ],
)
def test_invalid_bytes_are_one_replacement_per_maximal_subpart_and_block_nothing(
    raw: bytes, text: str, small: TextTokenizer
) -> None:
    detokenizer = small.create_detokenizer()
    assert "".join(detokenizer.feed((byte_id(byte),)) for byte in raw) == text


def test_only_the_first_space_of_the_reply_is_taken_away(real: TextTokenizer) -> None:
    the = real.encode_prompt("the")[-1]
    detokenizer = real.create_detokenizer()
    assert [detokenizer.feed((the,)) for _ in range(2)] == ["the", " the"]


def test_a_space_after_an_opening_newline_stays(small: TextTokenizer) -> None:
    assert small.decode([byte_id(10), small.encode_prompt(" ")[-1]])[0] == "\n"
    assert small.decode([byte_id(10), byte_id(32)]) == "\n "


def test_control_ids_and_ids_beyond_the_tokenizer_have_no_text(
    real: TextTokenizer, small: TextTokenizer
) -> None:
    assert real.decode([1, 39161, 2, real.num_entries, real.num_entries + 200, 29137]) == "あい"
    assert small.decode([BEGIN, END]) == ""


def test_an_added_token_that_is_not_special_has_text(small: TextTokenizer) -> None:
    assert small.decode([TURN]) == "<turn>"


def test_a_tokenizer_without_the_stripping_step_keeps_the_space() -> None:
    rules = DecodingRules(spells_spaces=True, spells_spaces_in_bytes=True)
    assert Detokenizer(["▁a".encode()], rules).feed((0,)) == " a"
