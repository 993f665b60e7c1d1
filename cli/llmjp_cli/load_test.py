"""The load test of `llmjp bench`, and its numbers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from typing import TYPE_CHECKING, Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from llmjp_client import LlmJpError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from llmjp_client import AsyncClient, Prompt

BUILT_IN_PROMPTS: Final = (
    "自然言語処理とは何か、初心者にもわかるように説明してください。",
    "日本の四季の特徴を、それぞれ二文ずつで書いてください。",
    "東京から京都へ旅行します。二泊三日の計画を立ててください。",
    "「石の上にも三年」ということわざの意味と使い方を教えてください。",
    "健康的な朝食の献立を三つ提案してください。",
    "機械学習における過学習とその防ぎ方を説明してください。",
    "取引先に会議の日程変更をお願いする丁寧なメールを書いてください。",
    "地球温暖化の原因と、個人にできる対策を挙げてください。",
)
"""Prompts where none are given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProfile:
    """The requests of a load test, and how many run at once."""

    prompts: tuple[Prompt, ...]
    """Used in turn, and again from the start when they run out."""
    concurrency: int
    num_requests: int
    num_warmup: int
    max_tokens: int | None


@dataclass(frozen=True, slots=True)
class Sample:
    """The times of one reply, in seconds on one clock."""

    start: float
    arrivals: tuple[float, ...]
    """When parts of the reply arrived."""
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of times in seconds."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def from_values(cls, values: Sequence[float]) -> Percentiles | None:
        """Return percentiles, interpolated between the nearest ranks; None without values."""
        if not values:
            return None
        ordered = sorted(values)

        def interpolate(share: float) -> float:
            place = share * (len(ordered) - 1)
            low = int(place)
            high = min(low + 1, len(ordered) - 1)
            return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

        return cls(interpolate(0.5), interpolate(0.9), interpolate(0.99))


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The numbers of one run."""

    concurrency: int
    num_replies: int
    failures: dict[str, int]
    """Number of failures by kind of error."""
    wall_s: float
    """From the first request to the last arrival."""
    num_tokens: int
    tokens_per_s: float
    tokens_per_arrival: float
    """Read the inter-token latency together with it."""
    first_token: Percentiles | None
    inter_token: Percentiles | None
    """Between two arrivals of one reply."""

    @classmethod
    def from_samples(
        cls, samples: Sequence[Sample], errors: Sequence[Exception], profile: LoadProfile
    ) -> Summary:
        """Return the summary of a run (pure)."""
        answered = [sample for sample in samples if sample.arrivals]
        start = min((s.start for s in answered), default=0.0)
        wall = max((s.arrivals[-1] for s in answered), default=0.0) - start
        tokens = sum(s.num_tokens for s in answered)
        arrivals = sum(len(s.arrivals) for s in answered)
        return cls(
            concurrency=profile.concurrency,
            num_replies=len(samples),
            failures=dict(Counter(type(error).__name__ for error in errors)),
            wall_s=wall,
            num_tokens=tokens,
            tokens_per_s=tokens / wall if wall else 0.0,
            tokens_per_arrival=tokens / arrivals if arrivals else 0.0,
            first_token=Percentiles.from_values([s.arrivals[0] - s.start for s in answered]),
            inter_token=Percentiles.from_values(
                [late - early for s in answered for early, late in pairwise(s.arrivals)]
            ),
        )

    def format_throughput(self) -> str:
        """Return everything but the latencies, for a person."""
        failures = "".join(f", failed: {count} x {kind}" for kind, count in self.failures.items())
        return (
            f"{self.tokens_per_s:,.1f} tokens/s ({self.num_tokens:,} in {self.wall_s:,.1f} s), "
            f"{self.tokens_per_arrival:.2f} tokens per arrival{failures}"
        )

    def to_object(self) -> dict[str, Any]:
        """Return the summary for JSON; latencies in milliseconds."""
        return {
            "concurrency": self.concurrency,
            "replies": self.num_replies,
            "failures": self.failures,
            "wall_s": round(self.wall_s, 3),
            "output_tokens": self.num_tokens,
            "tokens_per_s": round(self.tokens_per_s, 2),
            "tokens_per_arrival": round(self.tokens_per_arrival, 2),
            "ttft_ms": _to_milliseconds(self.first_token),
            "inter_token_ms": _to_milliseconds(self.inter_token),
        }


def _to_milliseconds(values: Percentiles | None) -> dict[str, float] | None:
    if values is None:
        return None
    return {
        "p50": round(values.p50 * 1e3, 2),
        "p90": round(values.p90 * 1e3, 2),
        "p99": round(values.p99 * 1e3, 2),
    }


def render_latencies(summary: Summary) -> Table:
    """Return the latencies as a table for a person."""
    latencies = Table(title=f"{summary.num_replies} replies, {summary.concurrency} at a time")
    latencies.add_column("milliseconds")
    for heading in ("p50", "p90", "p99"):
        latencies.add_column(heading, justify="right")
    rows = {"time to first token": summary.first_token, "between arrivals": summary.inter_token}
    for name, values in rows.items():
        cells = [f"{cell:,.1f}" for cell in (_to_milliseconds(values) or {}).values()]
        latencies.add_row(name, *cells)
    return latencies


async def run_load_test(
    client: AsyncClient, profile: LoadProfile, console: Console
) -> tuple[Summary, list[LlmJpError]]:
    """Send the requests; return the numbers, and the errors.

    Raises:
        LlmJpError: the warm-up failed.
    """
    async with client:
        for prompt in islice(cycle(profile.prompts), profile.num_warmup):
            await _measure_reply(client, prompt, profile.max_tokens, seed=0)
        samples: list[Sample] = []
        errors: list[LlmJpError] = []
        requests = enumerate(islice(cycle(profile.prompts), profile.num_requests))
        with _build_progress(console) as progress:
            task = progress.add_task("requests", total=profile.num_requests)

            async def send_requests() -> None:
                # The workers share the iterator: each takes the next request when it is free.
                for seed, prompt in requests:
                    try:
                        samples.append(
                            await _measure_reply(client, prompt, profile.max_tokens, seed=seed)
                        )
                    except LlmJpError as error:
                        errors.append(error)
                    progress.advance(task)

            async with asyncio.TaskGroup() as workers:
                for _ in range(profile.concurrency):
                    workers.create_task(send_requests())
    return Summary.from_samples(samples, errors, profile), errors


async def _measure_reply(
    client: AsyncClient, prompt: Prompt, max_tokens: int | None, *, seed: int
) -> Sample:
    start = time.perf_counter()
    async with client.stream(prompt, max_tokens=max_tokens, seed=seed) as stream:
        arrivals = [time.perf_counter() async for chunk in stream if chunk.text or chunk.output_ids]
        reply = await stream.reply()
    return Sample(start, tuple(arrivals), reply.usage.output_tokens)


def _build_progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
