"""Train the tiny model: `python examples/tiny-model/train.py` (uses a GPU if there is one)."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import torch
from tiny_model import checkpoint
from tiny_model.corpus import training_set
from tiny_model.encoding import encoded, tokenizer_of
from tiny_model.resuming import StateFile, StateUnusable
from tiny_model.training import Recipe, epoch_of, train

CHECKPOINT = Path(__file__).parent / "checkpoint"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class Progress:
    """One line on stderr: steps, loss, time left."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._started: tuple[float, int] | None = None

    def __call__(self, step: int, loss: float) -> None:
        """Shows where training is; the rate is counted from the first call on."""
        now = time.monotonic()
        since, first = self._started = self._started or (now, step)
        left = (now - since) / max(1, step - first) * (self._steps - step)
        end = "\n" if step == self._steps or not sys.stderr.isatty() else ""
        if end and step % 500 and step != self._steps:
            return
        share = step / self._steps
        line = f"{share:4.0%}  step {step}/{self._steps}  loss {loss:.5f}  {left:.0f} s left"
        print(f"\r{line}   ", end=end, file=sys.stderr, flush=True)


def main() -> None:
    usual = Recipe()
    parser = argparse.ArgumentParser(description="Train the tiny model on its questions.")
    parser.add_argument("--out", type=Path, default=CHECKPOINT, help="where the weights go")
    parser.add_argument("--tokenizer", type=Path, default=CHECKPOINT, help="see make_tokenizer.py")
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--batch", type=int, default=usual.batch)
    parser.add_argument("--rate", type=float, default=usual.peak_rate)
    parser.add_argument("--state", type=Path, help="keep the state here; go on if there is one")
    parser.add_argument("--save-every", type=int, default=StateFile.every, help="steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.save_every < 1:
        parser.error("--save-every: give at least 1 step")
    recipe = Recipe(steps=options.steps, batch=options.batch, peak_rate=options.rate)
    samples = training_set()
    data = epoch_of(samples, encoded(tokenizer_of(options.tokenizer), samples), recipe)
    model = checkpoint.new_model(recipe.seed).to(options.device)
    kept = StateFile(options.state, options.save_every) if options.state else None
    try:
        train(model, data, recipe, Progress(recipe.steps), kept=kept)
    except StateUnusable as error:
        parser.exit(3, f"{parser.prog}: {error}\n")
    checkpoint.write(model, options.out)
    if options.out.resolve() != options.tokenizer.resolve():
        for name in TOKENIZER_FILES:
            shutil.copy(options.tokenizer / name, options.out / name)
    print(options.out)


if __name__ == "__main__":
    main()
