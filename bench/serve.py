"""What serving costs: client -> Triton -> executor against the executor alone.

The same requests (greedy, a fixed number of new tokens), first straight into a `torch` executor in
this process, then through a real tritonserver and the project's own client, in turn, round after
round. Ratios of the rounds' medians are what counts; this machine's absolute times are not.

    python bench/serve.py [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from llmjp_builder.contracts.spec import BuildSpec, Source
from llmjp_builder.pipeline import build
from llmjp_client import AsyncClient
from llmjp_runtime.executor.protocol import GenerationRequest, SamplingParams, TokenEvent
from llmjp_runtime.executor.torch.executor import TorchExecutor
from llmjp_runtime.server.endpoints import Endpoints
from llmjp_runtime.server.preflight import find_free_ports
from llmjp_runtime.server.process import TritonServer
from llmjp_runtime.settings import ServingSettings
from llmjp_runtime.text.messages import Message
from llmjp_runtime.text.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parents[1] / "examples" / "tiny-model" / "checkpoint"
QUESTIONS = (
    "日本の首都はどこですか。",
    "自然言語処理とは何ですか。",
    "三足す四はいくつですか。",
    "「大きい」の反対の言葉は何ですか。",
    "一週間は何日ありますか。",
    "冬の次の季節は何ですか。",
    "お寿司の絵文字を教えてください。",
    "丁寧に言い直してください：「待って」",
)
NEW_TOKENS = 96
CONCURRENCY = (1, 16)


@dataclass(frozen=True, slots=True)
class Wave:
    """So many requests at once, once."""

    tokens_per_s: float
    first_token_s: float
    """Median over the requests."""


def questions(count: int) -> list[str]:
    return [QUESTIONS[i % len(QUESTIONS)] for i in range(count)]


def wave_of(start: float, first: list[float], num_tokens: int, end: float) -> Wave:
    return Wave(num_tokens / (end - start), statistics.median(t - start for t in first))


def alone(executor: TorchExecutor, tokenizer: TextTokenizer, count: int) -> Wave:
    """Straight into the executor."""
    first: dict[int, float] = {}
    tokens = [0] * count
    ended = threading.Semaphore(0)
    prompts = [tuple(tokenizer.encode_chat([Message("user", q)])) for q in questions(count)]

    def sink(index: int) -> Callable[[TokenEvent], None]:
        def on_event(event: TokenEvent) -> None:
            first.setdefault(index, time.monotonic())
            tokens[index] = event.num_generated
            if event.final:
                ended.release()

        return on_event

    sampling = SamplingParams(
        max_tokens=NEW_TOKENS, min_tokens=NEW_TOKENS, top_k=1, end_ids=tokenizer.eos_ids
    )
    start = time.monotonic()
    for index, prompt in enumerate(prompts):
        request = GenerationRequest(request_id=f"b{index}", prompt_ids=prompt, sampling=sampling)
        executor.submit(request, sink(index))
    for _ in range(count):
        ended.acquire()
    return wave_of(start, list(first.values()), sum(tokens), time.monotonic())


async def through(client: AsyncClient, count: int) -> Wave:
    """Through client and Triton."""
    first: list[float] = []
    options: dict[str, Any] = {"top_k": 1, "repetition_penalty": 1.0, "max_tokens": NEW_TOKENS}
    options |= {"min_tokens": NEW_TOKENS, "temperature": 1.0}

    async def one(question: str) -> int:
        seen = False
        async with client.stream([{"role": "user", "content": question}], **options) as stream:
            async for _ in stream:
                if not seen:
                    first.append(time.monotonic())
                seen = True
            return (await stream.reply()).usage.output_tokens

    start = time.monotonic()
    tokens = await asyncio.gather(*(one(question) for question in questions(count)))
    return wave_of(start, first, sum(tokens), time.monotonic())


@dataclass(frozen=True, slots=True)
class Result:
    """Medians over the rounds at one concurrency."""

    at_once: int
    alone_tokens_per_s: float
    through_tokens_per_s: float
    ratio: float
    ratio_min: float
    ratio_max: float
    alone_first_token_ms: float
    through_first_token_ms: float
    added_first_token_ms: float


def result_of(at_once: int, pairs: list[tuple[Wave, Wave]]) -> Result:
    def median(value: Callable[[Wave, Wave], float]) -> float:
        return statistics.median(value(a, b) for a, b in pairs)

    ratios = [b.tokens_per_s / a.tokens_per_s for a, b in pairs]
    return Result(
        at_once,
        median(lambda a, _: a.tokens_per_s),
        median(lambda _, b: b.tokens_per_s),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        1e3 * median(lambda a, _: a.first_token_s),
        1e3 * median(lambda _, b: b.first_token_s),
        1e3 * median(lambda a, b: b.first_token_s - a.first_token_s),
    )


async def measure(endpoint: str, artefact: Path, rounds: int, threads: int) -> list[Result]:
    tokenizer = TextTokenizer.load(artefact / "tokenizer")
    executor = TorchExecutor.load(artefact, num_threads=threads)
    results = []
    async with AsyncClient(endpoint) as client:
        for at_once in CONCURRENCY:
            pairs = []
            for _ in range(rounds + 1):
                before = await asyncio.to_thread(alone, executor, tokenizer, at_once)
                pairs.append((before, await through(client, at_once)))
            results.append(result_of(at_once, pairs[1:]))
    executor.close()
    return results


def report(results: list[Result]) -> Table:
    table = Table(title=f"{NEW_TOKENS} new tokens a request, greedy; medians of the rounds")
    for name in ("at once", "alone tok/s", "through tok/s", "ratio (min-max)", "TTFT alone ms"):
        table.add_column(name, justify="right")
    table.add_column("TTFT through ms", justify="right")
    table.add_column("added ms", justify="right")
    for r in results:
        table.add_row(
            str(r.at_once),
            f"{r.alone_tokens_per_s:.0f}",
            f"{r.through_tokens_per_s:.0f}",
            f"{r.ratio:.2f} ({r.ratio_min:.2f}-{r.ratio_max:.2f})",
            f"{r.alone_first_token_ms:.1f}",
            f"{r.through_first_token_ms:.1f}",
            f"{r.added_first_token_ms:.1f}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=EXAMPLE)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="torch threads on both sides")
    parser.add_argument("--interval-ms", type=float, default=20.0, help="see ServingSettings")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spec = BuildSpec(source=Source(path=str(arguments.checkpoint)), tensor_parallel=2)
        artefact = build(spec, store=Path(folder) / "store").path
        http, grpc, metrics, health = find_free_ports(4)
        settings = ServingSettings(
            artefact=artefact,
            health_port=health,
            num_threads=arguments.threads,
            response_interval_ms=arguments.interval_ms,
        )
        endpoints = Endpoints(http_port=http, grpc_port=grpc, metrics_port=metrics)
        with TritonServer(settings, endpoints, log=Path(folder) / "log") as server:
            server.wait_ready()
            results = asyncio.run(
                measure(server.grpc_endpoint, artefact, arguments.rounds, arguments.threads)
            )
    Console().print(report(results))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")


if __name__ == "__main__":
    main()
