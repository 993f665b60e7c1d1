"""Two hundred real prompts, 32 at a time: the streams are whole, and equal the greedy text."""

from __future__ import annotations

import asyncio

from llmjp_client import AsyncClient, Reply
from llmjp_runtime.server.process import TritonServer
from tests.support.shared import shared

AT_ONCE = 32
OPTIONS = {"top_k": 1, "repetition_penalty": 1.0, "max_tokens": 48}


async def streamed(client: AsyncClient, prompt: str) -> tuple[list[str], Reply]:
    messages = [{"role": "user", "content": prompt}]
    async with client.stream(messages, **OPTIONS) as stream:  # type: ignore[arg-type]
        texts = [chunk.text async for chunk in stream]
        return texts, await stream.reply()


async def both(client: AsyncClient, prompt: str, gate: asyncio.Semaphore) -> str | None:
    """What is wrong with this prompt's replies, if anything."""
    async with gate:
        texts, reply = await streamed(client, prompt)
        messages = [{"role": "user", "content": prompt}]
        whole = await client.chat(messages, **OPTIONS)  # type: ignore[arg-type]
    joined = "".join(texts)
    if joined != whole.text or reply.text != joined:
        return f"stream {joined!r}, whole {whole.text!r}"
    if reply.output_ids != whole.output_ids or reply.usage != whole.usage:
        return f"ids {reply.output_ids}, whole {whole.output_ids}"
    return f"not whole: {joined!r}" if "\N{REPLACEMENT CHARACTER}" in joined else None


async def all_of(endpoint: str, prompts: list[str], at_once: int = AT_ONCE) -> dict[str, str]:
    gate = asyncio.Semaphore(at_once)
    async with AsyncClient(endpoint) as client:
        faults = await asyncio.gather(*(both(client, prompt, gate) for prompt in prompts))
    return {prompt: fault for prompt, fault in zip(prompts, faults, strict=True) if fault}


def test_every_stream_is_the_greedy_text(server: TritonServer) -> None:
    prompts = shared("prompts-ja.txt").read_text("utf-8").splitlines()
    assert len(prompts) == 200
    assert asyncio.run(all_of(server.grpc_endpoint, prompts)) == {}
