"""Ask the model its questions: `python examples/tiny-model/evaluate.py [--json FILE]`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from tiny_model import checkpoint
from tiny_model.corpus import samples
from tiny_model.encoding import tokenizer_of
from tiny_model.qa import Sample, Split
from tiny_model.scores import Report, evenly_drawn, measured

CHECKPOINT = Path(__file__).parent / "checkpoint"


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain values: exact answers and questions by kind and set."""
    kinds = dict.fromkeys(kind for kind, _ in report.by_kind)
    table = {
        kind: {
            split.value: {"right": score.right, "asked": score.asked}
            for split in Split
            if (score := report.by_kind.get((kind, split)))
        }
        for kind in kinds
    }
    totals = {split.value: round(report.total(split).share, 4) for split in Split}
    return {"repetition_penalty": report.penalty, "exact": totals, "kinds": table}


def as_table(report: Report) -> str:
    """The report as a Markdown table."""
    lines = [
        f"repetition_penalty {report.penalty}",
        "| kind | trained | exact | held out | exact |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind in dict.fromkeys(kind for kind, _ in report.by_kind):
        cells = [report.by_kind.get((kind, split)) for split in Split]
        shown = [f"{s.asked} | {s.share:.1%}" if s else "0 | " for s in cells]
        lines.append(f"| {kind} | {' | '.join(shown)} |")
    totals = [report.total(split) for split in Split]
    shown = [f"{s.asked} | {s.share:.2%}" for s in totals]
    return "\n".join([*lines, f"| all | {' | '.join(shown)} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask the tiny model its questions, greedily.")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--per-kind", type=int, help="ask that many of each kind and set only")
    parser.add_argument("--repetition-penalty", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--wrong", type=int, default=0, help="show that many wrong answers")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    asked: list[Sample] = samples()
    if options.per_kind:
        asked = [s for split in Split for s in evenly_drawn(asked, split, options.per_kind)]
    model = checkpoint.load(options.checkpoint, options.device)
    tokenizer = tokenizer_of(options.checkpoint)
    penalty, batch = options.repetition_penalty, options.batch
    report = measured(model, tokenizer, asked, penalty=penalty, batch=batch)
    print(as_table(report))
    for sample, answer in report.wrong[: options.wrong]:
        print(f"{sample.split.value}: {sample.turns} -> {answer!r}, not {sample.answer!r}")
    if options.json:
        options.json.write_text(json.dumps(as_json(report), ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
