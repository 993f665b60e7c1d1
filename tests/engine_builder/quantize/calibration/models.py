"""Small models to calibrate, and calibrating them without a store."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Metaspace
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from llmjp_builder.contracts.spec import Dtype
from llmjp_builder.convert.amax import Amax
from llmjp_builder.convert.checkpoint import read_checkpoint
from llmjp_builder.progress import Reporter
from llmjp_builder.quantize.calibration.layerwise import CalibrationTask, calibrate_layers
from llmjp_builder.quantize.calibration.tokens import Tokens
from tests.engine_builder.checkpoints import Tiny, write_checkpoint
from tests.engine_builder.quantize.modelopt import Case

Texts = tuple[tuple[int, ...], ...]

MODEL = Tiny(hidden=32, inter=48, layers=4, heads=4, kv_heads=2, head_size=16, vocab=41)


def written(folder: Path, model: Tiny = MODEL, **options: Any) -> Path:
    """A checkpoint with weights of the size that trained ones have."""
    return write_checkpoint(folder, model, Case(model=model).weights(), **options)


def add_letters(folder: Path) -> Path:
    """A tokenizer with one token per letter, 0 for any other."""
    letters = "いろはにほへとちりぬるをわかよたれそつねならむ"
    vocabulary = {"?": 0} | {letter: i + 1 for i, letter in enumerate(letters)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = Split(Regex("."), "isolated")
    tokenizer.decoder = Metaspace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def drawn_texts(vocab: int, lengths: tuple[int, ...], seed: int = 5) -> Texts:
    draw = random.Random(seed)
    return tuple(tuple(draw.randrange(vocab) for _ in range(n)) for n in lengths)


def calibrated(
    source: Path, work: Path, texts: Texts, dtype: Dtype = "bfloat16", reporter: Any = None
) -> Amax:
    """As `calibrate` does it, on these tokens and the CPU."""
    work.mkdir(exist_ok=True)
    task = CalibrationTask(read_checkpoint(source), dtype, Tokens(texts), torch.device("cpu"), work)
    return calibrate_layers(task, reporter or Reporter(None))
