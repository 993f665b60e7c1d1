"""Texts to calibrate on: how a file is divided, what is refused, and the ones that come along."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import BadTexts, BuilderError, MissingFile
from llmjp_builder.quantize.calibration.passages import (
    read_built_in_passages,
    read_passages,
    split_passages,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("一つ", ("一つ",)),
        ("一つ\n続き\n\n二つ\n", ("一つ\n続き", "二つ")),
        ("一つ\n \t\n\n\n二つ", ("一つ", "二つ")),
        ("一つ\n\n続き\n%%\n二つ\n", ("一つ\n\n続き", "二つ")),
        ("%%\n%% \n一つ\n%%\n", ("一つ",)),
        ("100%% 本物\n\n二つ", ("100%% 本物", "二つ")),
        ("一つ\r\n\r\n二つ\r\n", ("一つ", "二つ")),
        ("\ufeff一つ", ("一つ",)),
        ("    字下げ\n\n  二つ", ("    字下げ", "  二つ")),
        ("\n\n \n", ()),
    ],
)
def test_division(text: str, expected: tuple[str, ...]) -> None:
    assert split_passages(text) == expected


@given(st.lists(st.text("あa \n%", min_size=1), min_size=1))
def test_what_is_divided_is_found_again(texts: list[str]) -> None:
    clean = [t.strip("\n") for t in texts]
    clean = [t for t in clean if t.strip() and "%%" not in t]
    assert split_passages("\n%%\n".join([*clean, ""])) == tuple(clean)


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("猫\n\n犬", encoding="utf-8")
    assert read_passages(file) == ("猫", "犬")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("日本語".encode("shift_jis"), "not UTF-8"),
        ("日本語".encode("utf-16"), "not UTF-8"),
        ("猫".encode()[:-1], "at byte 0"),
        (b"", "no text in it"),
        (b"\n \n%%\n", "no text in it"),
    ],
)
def test_refused(tmp_path: Path, data: bytes, words: str) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes(data)
    with pytest.raises(BadTexts, match=words) as raised:
        read_passages(file)
    assert str(file) in str(raised.value)


def test_absurdly_large(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    with file.open("wb") as sparse:
        sparse.truncate((64 << 20) + 1)
    with pytest.raises(BadTexts, match="too many"):
        read_passages(file)


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_no_such_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingFile):
        read_passages(tmp_path / name)


@given(st.binary())
def test_any_bytes_are_divided_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.txt"
    file.write_bytes(data)
    try:
        found = read_passages(file)
    except BuilderError:
        return
    assert all(passage.strip() for passage in found)


def test_the_built_in_texts_are_many_and_different() -> None:
    found = read_built_in_passages()
    assert len(found) >= 512
    assert len(set(found)) == len(found)
    assert found == read_built_in_passages()


def test_the_built_in_texts_are_of_all_kinds() -> None:
    found = read_built_in_passages()
    assert sum("\n\n### 指示:\n" in p and p.endswith("</s>") for p in found) >= 128
    assert sum("def " in p or "{\n" in p for p in found) >= 16
    assert sum("|---" in p or "\t" in p or p.startswith("品名,") for p in found) >= 16
    assert sum(len(p) < 20 for p in found) >= 16
    assert sum(len(p) > 500 for p in found) >= 8
    assert len(set("".join(found))) > 1500
