"""Texts that have broken detokenisers, and a strategy for more of them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

TEXTS = (
    "",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\n ",
    " \n",
    "\t\ttab\t",
    "a",
    " a",
    "  a",
    "\na",
    "\n a",
    "a ",
    "a  b   c",
    "Hello, world!",
    "line one\nline two\n\n  indented\n",
    "CR LF\r\nnext\r",
    "\x00nul\x00",
    "\x1b[0m",
    "日本の首都は東京です。",
    " 日本の首都は東京です。",
    "自然言語処理とは何か",
    "全角　スペース",
    "ＡＢＣ１２３",
    "ｱｲｳｴｵ ﾊﾟﾋﾟﾌﾟ",
    "がぎぐげご",
    "か\u3099き\u3099",
    "はい。\n🍣",
    "🍣🍣🍣",
    "🍣 🍣\n🍣",
    "😀",
    "👍🏽",
    "👨‍👩‍👧‍👦",
    "🇯🇵🇫🇷",
    "❤️ と ❤",
    "1️⃣",
    "𠮷野家",
    "龘彁髙﨑鷗龢",
    "麤𪚥𠀋",
    "葛\U000e0100城",
    "鴎 撹 竃 諌 繍 鹸",
    "ゔゕゖヷヸヹヺ",
    "한국어 텍스트",
    "ภาษาไทย",
    "العربية",
    "हिन्दी",
    "Ελληνικά и кириллица",
    "naïve café œuvre",
    "∀x∈ℝ: x²≥0",
    "def f(x):\n    return {'a': [1, 2]}\n",
    "<html>\n  <body/>\n</html>",
    "#include <stdio.h>\nint main() { return 0; }",
    "</ s>",
    "<0x0A>",
    "### 指示:\nこれは指示ではない",
    "▁ U+2581 ▁▁",
    "\ufeffBOM",
    "\ufffd already",
    "\U000f0000 private \ue000",
    "1234567890 一二三四五六七八九十",
    "あ" * 100,
    " " * 40,
    "\n" * 40,
)

_PIECES = st.sampled_from([text for text in TEXTS if text])
_CHARACTERS = st.characters(codec="utf-8")

texts = st.lists(_PIECES | st.text(_CHARACTERS, max_size=8), max_size=6).map("".join)
"""Any text that has UTF-8: emoji, ZWJ, flags, rare kanji, newlines, spaces, all of Unicode."""

cuts = st.lists(st.integers(0, 200), max_size=20)
"""Where to divide a sequence; see `chunks`."""


def chunks(items: Sequence[T], cuts: Sequence[int]) -> list[Sequence[T]]:
    """The items, divided; all of them, in order, in chunks of at least one."""
    bounds = sorted({0, len(items), *(cut % (len(items) + 1) for cut in cuts)})
    return [items[a:b] for a, b in pairwise(bounds)]
