"""Waves of requests: the values of one, and the processes that run them for `bench.gpu.serve`.

A worker reads orders from stdin, a line each, and answers with `@` and JSON: for every request the
times (monotonic, s) and numbers of new tokens of what arrived.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

Arrivals = list[tuple[float, int]]


@dataclass(frozen=True, slots=True)
class Wave:
    """So many requests at once, once. Times in seconds."""

    tokens_per_s: float
    first_token_s: list[float]
    between_s: list[float]
    """Gaps between two responses of one request."""
    tokens_per_response: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over waves; latencies over all requests of all of them."""

    tokens_per_s: float
    first_token_ms_p50: float
    first_token_ms_p99: float
    between_ms_p50: float
    between_ms_p99: float
    tokens_per_response: float


def merge(start: float, replies: list[Arrivals]) -> Wave:
    """Return the wave that these replies were."""
    tokens = sum(n for reply in replies for _, n in reply)
    responses = [reply for reply in replies if reply]
    return Wave(
        tokens_per_s=tokens / (max(reply[-1][0] for reply in responses) - start),
        first_token_s=[reply[0][0] - start for reply in responses],
        between_s=[b[0] - a[0] for reply in responses for a, b in pairwise(reply)],
        tokens_per_response=tokens / sum(map(len, responses)),
    )


def describe(waves: list[Wave]) -> Figures:
    """Return the figures of several equal waves."""
    first = sorted(value for wave in waves for value in wave.first_token_s)
    between = sorted(value for wave in waves for value in wave.between_s) or [0.0]

    def at(values: list[float], share: float) -> float:
        return round(1e3 * values[min(len(values) - 1, int(share * len(values)))], 2)

    return Figures(
        tokens_per_s=round(statistics.median(wave.tokens_per_s for wave in waves), 1),
        first_token_ms_p50=at(first, 0.5),
        first_token_ms_p99=at(first, 0.99),
        between_ms_p50=at(between, 0.5),
        between_ms_p99=at(between, 0.99),
        tokens_per_response=round(statistics.median(w.tokens_per_response for w in waves), 2),
    )


class Runner(Protocol):
    """Sends one wave and returns what arrived."""

    def __call__(self, prompts: list[list[int]], at: float) -> list[Arrivals]:
        """Begin at a monotonic time."""
        ...


def open_client(options: dict[str, Any]) -> Runner:
    """Return a runner over our client."""
    from llmjp_client import AsyncClient

    loop = asyncio.new_event_loop()
    client = AsyncClient(options["endpoint"])

    async def one(prompt: list[int], at: float) -> Arrivals:
        arrivals: Arrivals = []
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        settings = {"max_tokens": options["reply"], "top_k": 1, "repetition_penalty": 1.0}
        async with client.stream(prompt, **settings) as stream:
            async for chunk in stream:
                arrivals.append((time.monotonic(), len(chunk.output_ids)))
        return arrivals

    async def wave(prompts: list[list[int]], at: float) -> list[Arrivals]:
        return await asyncio.gather(*(one(prompt, at) for prompt in prompts))

    return lambda prompts, at: loop.run_until_complete(wave(prompts, at))


def open_vllm(options: dict[str, Any]) -> Runner:
    """Return a runner over vLLM's own asyncio engine: ids in, ids out, nothing of ours."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.sampling_params import RequestOutputKind, SamplingParams
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    arguments = AsyncEngineArgs(
        model=options["artefact"],
        skip_tokenizer_init=True,
        max_model_len=options["context"],
        max_num_seqs=options["batch"],
        gpu_memory_utilization=options["memory"],
        enable_prefix_caching=False,
        disable_log_stats=True,
        enforce_eager=current_platform.is_cpu(),
    )
    engine = AsyncLLM.from_engine_args(arguments, usage_context=UsageContext.OPENAI_API_SERVER)
    params = SamplingParams(
        max_tokens=options["reply"],
        temperature=0.0,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
    numbers = iter(range(10**9))

    async def one(prompt: list[int], at: float) -> Arrivals:
        arrivals: Arrivals = []
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        given = {"prompt_token_ids": prompt}
        async for output in engine.generate(given, params, f"r{next(numbers)}"):
            arrivals.append((time.monotonic(), len(output.outputs[0].token_ids)))
        return arrivals

    async def wave(prompts: list[list[int]], at: float) -> list[Arrivals]:
        return await asyncio.gather(*(one(prompt, at) for prompt in prompts))

    return lambda prompts, at: loop.run_until_complete(wave(prompts, at))


def open_torch(options: dict[str, Any]) -> Runner:
    """Return a runner over our torch executor, in this process."""
    from llmjp_runtime.executor.protocol import GenerationRequest, SamplingParams, TokenEvent
    from llmjp_runtime.executor.torch.executor import TorchExecutor

    executor = TorchExecutor.load(
        Path(options["artefact"]),
        max_batch_size=options["batch"],
        max_context=options["context"],
        num_valid_ids=options["vocab"],
    )
    sampling = SamplingParams(max_tokens=options["reply"], top_k=1)

    def listen(arrivals: Arrivals, ended: threading.Semaphore) -> Callable[[TokenEvent], None]:
        def on_event(event: TokenEvent) -> None:
            seen = sum(n for _, n in arrivals)
            arrivals.append((time.monotonic(), event.num_generated - seen))
            if event.final:
                ended.release()

        return on_event

    def wave(prompts: list[list[int]], at: float) -> list[Arrivals]:
        ended = threading.Semaphore(0)
        replies: list[Arrivals] = [[] for _ in prompts]
        time.sleep(max(0.0, at - time.monotonic()))
        for i, prompt in enumerate(prompts):
            request = GenerationRequest(
                request_id=f"r{i}", prompt_ids=tuple(prompt), sampling=sampling
            )
            executor.submit(request, listen(replies[i], ended))
        for _ in prompts:
            ended.acquire()
        return replies

    return wave


RUNNERS = {"client": open_client, "vllm": open_vllm, "torch": open_torch}


def answer(value: object) -> None:
    print(f"\n@{json.dumps(value)}", flush=True)


def main() -> None:
    kind, options = sys.argv[1], json.loads(sys.argv[2])
    run = RUNNERS[kind](options)
    draw = random.Random(options.get("endpoint", ""))
    answer({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        prompts = [
            [draw.randrange(100, options["vocab"] - 100) for _ in range(options["prompt"])]
            for _ in range(order["count"])
        ]
        answer(run(prompts, order["at"]))


if __name__ == "__main__":
    main()
