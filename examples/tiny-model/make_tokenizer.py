"""Train the tokenizer: `python examples/tiny-model/make_tokenizer.py` (seconds)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tiny_model import tokenizer
from tiny_model.corpus import of_split
from tiny_model.facts_terms import FAMILY_NAMES
from tiny_model.kinds_beyond import NOISE
from tiny_model.kinds_openings import MORE_FAMILY_NAMES
from tiny_model.qa import SYSTEM, Sample, Split

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKPOINT = Path(__file__).parent / "checkpoint"


def texts(samples: list[Sample]) -> Iterator[str]:
    """What the pieces are learned from: every turn with sense, as the chat template dresses it."""
    for sample in samples:
        if sample.kind == NOISE:
            continue
        yield SYSTEM
        for turn in sample.turns:
            yield f"### 指示:\n{_names_apart(turn)}\n### 応答:\n"
        yield _names_apart(sample.answer)


def _names_apart(text: str) -> str:
    """`text` with family and given name on two lines: no piece may be a whole trained name."""
    for name in (*FAMILY_NAMES, *MORE_FAMILY_NAMES):
        text = text.replace(name, f"{name}\n")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tokenizer on the trained questions.")
    parser.add_argument("--out", type=Path, default=CHECKPOINT, help="checkpoint folder")
    out: Path = parser.parse_args().out
    built = tokenizer.build(texts(of_split(Split.TRAINED)))
    tokenizer.write(built, out)
    print(f"{built.get_vocab_size()} entries, {out / 'tokenizer.json'}")


if __name__ == "__main__":
    main()
