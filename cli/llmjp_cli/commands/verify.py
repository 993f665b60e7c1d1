"""`llmjp verify`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmjp_cli.option_groups import OptionGroup, expand_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from llmjp_runtime.text.tokenizer import TextTokenizer
    from llmjp_runtime.verify.limits import Limits
    from llmjp_runtime.verify.report import Measurement

LIMITS = "Limits (by default those of the checkpoint's precision)"
_INTERVAL_S = 1.0
"""Between two lines of progress where there is no terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions:
    """Limits that replace those of the checkpoint's precision."""

    mean_kl: float | None = None
    logit_error: float | None = None
    perplexity: float | None = None
    part_error: float | None = None
    part_gain: float | None = None
    range_low: float | None = None
    range_high: float | None = None

    def apply_to(self, limits: Limits) -> Limits:
        """Return `limits` with those that were given."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(limits, **given)


def _declare_limit(flag: str, text: str) -> Any:
    return typer.Option(flag, min=0, help=text, rich_help_panel=LIMITS)


LIMIT_OPTIONS = OptionGroup(
    {
        "mean_kl": _declare_limit("--max-kl", "Mean KL divergence, nats."),
        "logit_error": _declare_limit(
            "--max-logit-error", "Mean error of the logits, relative to their spread."
        ),
        "perplexity": _declare_limit("--max-perplexity", "|ln| of the ratio of perplexities."),
        "part_error": _declare_limit("--max-part-error", "Relative error of any part of a layer."),
        "part_gain": _declare_limit("--max-part-gain", "|gain - 1| of any part of a layer."),
        "range_low": _declare_limit(
            "--min-range", "Share of an FP8 scale's range that inputs must use."
        ),
        "range_high": _declare_limit(
            "--max-range", "Share that they may use; beyond 1, values are clamped."
        ),
    }
)


Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="ARTEFACT|CHECKPOINT",
        help="Artefact of kind ranks, or folder from `llmjp convert`.",
    ),
]
Reference = Annotated[
    Path, typer.Option(help="Folder of the Hugging Face checkpoint that it was made from.")
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        show_default="built-in Japanese texts", help="Text file with one prompt per line."
    ),
]
MaxTokens = Annotated[
    int, typer.Option(min=1, max=4096, help="Tokens of the greedy reply to each prompt.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N; auto takes CUDA if available.")]
MeasurementsAsJson = Annotated[
    bool, typer.Option("--json", help="Print every measurement as JSON.")
]


@expand_groups
def verify_checkpoint(
    checkpoint: Checkpoint,
    reference: Reference,
    prompts: Prompts = None,
    max_tokens: MaxTokens = 16,
    device: Device = "auto",
    *,
    limits: Annotated[LimitOptions, LIMIT_OPTIONS],
    as_json: MeasurementsAsJson = False,
) -> None:
    """Run a checkpoint and the model that it was made from side by side; say whether they agree.

    Every rank's own tensors are used, in the arithmetic that serves them (FP8 included). Both are
    read layer by layer, so memory holds one layer of each. Exits with 0 if all limits are kept,
    else with 3, naming the part of the layer that is off.

    Example: llmjp verify ckpt-tp2 --reference llm-jp-3-1.8b-instruct
    """
    from llmjp_runtime.verify.errors import VerdictFailed
    from llmjp_runtime.verify.inputs import load_tokenizer
    from llmjp_runtime.verify.limits import LIMITS as DEFAULT_LIMITS
    from llmjp_runtime.verify.prompts import BUILT_IN, read_prompts

    tokenizer = load_tokenizer(checkpoint, reference)
    texts = BUILT_IN if prompts is None else read_prompts(prompts)
    measurement = _measure(checkpoint, reference, texts, tokenizer, max_tokens, device)
    applied = limits.apply_to(DEFAULT_LIMITS[measurement.precision])
    if as_json:
        _print_json(measurement, applied)
    else:
        from llmjp_cli.tables.verify_table import print_measurement

        print_measurement(measurement, applied, texts, tokenizer)
    if failures := list(measurement.failures(applied)):
        raise VerdictFailed(f"{checkpoint} does not match its reference: {'; '.join(failures)}")


def _measure(
    checkpoint: Path,
    reference: Path,
    texts: Sequence[str],
    tokenizer: TextTokenizer,
    max_tokens: int,
    device: str,
) -> Measurement:
    from llmjp_runtime.verify.prompts import encode_prompts
    from llmjp_runtime.verify.run import measure

    with _open_reporter() as report:
        return measure(
            checkpoint,
            reference,
            encode_prompts(texts, tokenizer),
            max_tokens=max_tokens,
            end_ids=tokenizer.eos_ids,
            device=device,
            on_progress=report,
        )


def _print_json(measurement: Measurement, limits: Limits) -> None:
    from llmjp_runtime.verify.report import to_json

    document = to_json(measurement, limits, list(measurement.failures(limits)))
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


@contextmanager
def _open_reporter() -> Iterator[Callable[[int, int], None]]:
    """Yield a sink on stderr: a bar with the time left on a terminal, else JSON lines."""
    if not sys.stderr.isatty():
        yield _LineSink()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("verify"), BarColumn(), TaskProgressColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verify", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _LineSink:
    """JSON lines with the members of the builder's progress."""

    def __init__(self) -> None:
        self._began = self._written = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._written < _INTERVAL_S:
            return
        self._written = now
        left = (now - self._began) * (total - done) / done if done else None
        line = {
            "step": "verify",
            "percent": round(100 * done / total, 1),
            "eta_seconds": None if left is None else round(left, 1),
        }
        typer.echo(json.dumps(line), err=True)
