"""`llmjp verify`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmjp_runtime.verify.limits import Limits, Precision

LIMITS = "Limits (by default those of the checkpoint's precision)"
_INTERVAL_S = 1.0
"""Between two lines of progress where there is no terminal."""

Limit = float | None


def verify(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="ARTEFACT|CHECKPOINT",
            help="Artefact of kind ranks, or folder that `llmjp convert` made.",
        ),
    ],
    reference: Annotated[
        Path, typer.Option(help="Folder of the Hugging Face checkpoint it was made of.")
    ],
    prompts: Annotated[
        Path | None,
        typer.Option(
            show_default="built-in Japanese texts", help="Text file with one prompt a line."
        ),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, max=4096, help="Of the greedy reply to each prompt.")
    ] = 16,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:N; auto takes CUDA if there is one.")
    ] = "auto",
    max_kl: Annotated[
        Limit, typer.Option(min=0, help="Mean KL divergence, nats.", rich_help_panel=LIMITS)
    ] = None,
    max_logit_error: Annotated[
        Limit,
        typer.Option(min=0, help="Mean error of logits over their spread.", rich_help_panel=LIMITS),
    ] = None,
    max_perplexity: Annotated[
        Limit,
        typer.Option(min=0, help="|ln| of the ratio of perplexities.", rich_help_panel=LIMITS),
    ] = None,
    max_part_error: Annotated[
        Limit,
        typer.Option(min=0, help="Relative error of any part of a layer.", rich_help_panel=LIMITS),
    ] = None,
    max_part_gain: Annotated[
        Limit,
        typer.Option(min=0, help="|gain - 1| of any part of a layer.", rich_help_panel=LIMITS),
    ] = None,
    min_range: Annotated[
        Limit,
        typer.Option(
            min=0, help="Share of an FP8 scale's range that inputs fill.", rich_help_panel=LIMITS
        ),
    ] = None,
    max_range: Annotated[
        Limit, typer.Option(min=0, help="Likewise; beyond 1 is clamped.", rich_help_panel=LIMITS)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything that was measured.")] = False,
) -> None:
    """Run a checkpoint and the model it was made of side by side, and say whether they agree.

    Every rank's own tensors are used, in the arithmetic that serves them (FP8 included). Both are
    read layer by layer, so memory holds one layer of each. Exits with 0 where all limits are kept,
    else with 3, saying which part of which layer is off.

    Example: llmjp verify ckpt-tp2 --reference llm-jp-3-1.8b-instruct
    """
    from llmjp_runtime.verify.errors import VerdictFailed
    from llmjp_runtime.verify.inputs import load_tokenizer
    from llmjp_runtime.verify.prompts import BUILT_IN, encoded, read_prompts
    from llmjp_runtime.verify.report import to_json
    from llmjp_runtime.verify.run import measure

    tokenizer = load_tokenizer(checkpoint, reference)
    texts = BUILT_IN if prompts is None else read_prompts(prompts)
    with _progress() as on_progress:
        measurement = measure(
            checkpoint,
            reference,
            encoded(texts, tokenizer),
            max_tokens=max_tokens,
            end_ids=tokenizer.eos_ids,
            device=device,
            on_progress=on_progress,
        )
    limits = _limits(
        measurement.precision,
        mean_kl=max_kl,
        logit_error=max_logit_error,
        perplexity=max_perplexity,
        part_error=max_part_error,
        part_gain=max_part_gain,
        range_low=min_range,
        range_high=max_range,
    )
    failures = list(measurement.failures(limits))
    if as_json:
        document = to_json(measurement, limits, failures)
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        from llmjp_cli.tables.verify_table import show

        show(measurement, limits, texts, tokenizer)
    if failures:
        raise VerdictFailed(f"{checkpoint} is not its reference: {'; '.join(failures)}")


def _limits(precision: Precision, **given: Limit) -> Limits:
    from llmjp_runtime.verify.limits import LIMITS as DEFAULTS

    return replace(DEFAULTS[precision], **{k: v for k, v in given.items() if v is not None})


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left on a terminal, else a JSON line a second; both on stderr."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("verify"), BarColumn(), TaskProgressColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verify", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    """JSON lines with the members that the builder's progress has."""

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
