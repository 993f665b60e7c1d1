"""Many requests at once through models that call other models, some of them left half-way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmjp_client import AsyncClient
from llmjp_runtime.server.process import TritonServer
from tests.support.engine import engine_artefact, stand_in_environment
from tests.support.triton import EXAMPLE, build_artefact, serving
from tests.triton.test_failures import probe, until

pytestmark = pytest.mark.triton

AT_ONCE = 24
ROUNDS = 3
LEFT = 3
"""Every so many'th stream is left after its first words."""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_artefact(EXAMPLE, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module", params=["torch", "tensorrt"])
def server(
    request: pytest.FixtureRequest, ranks: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    log = tmp_path_factory.mktemp("triton") / "triton.log"
    if request.param == "torch":
        with serving(ranks, log) as server:
            yield server
        return
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stand_in_environment(tmp_path_factory.mktemp("home")).items():
            patch.setenv(name, value)
        artefact = engine_artefact(ranks, tmp_path_factory.mktemp("engine") / "artefact")
        with serving(artefact, log) as server:
            yield server


async def talk(endpoint: str, model: str) -> list[str]:
    """Rounds of streams; the reply of each that was heard to its end."""

    async def one(client: AsyncClient, number: int) -> str | None:
        question = [{"role": "user", "content": "日本の首都はどこですか。"}]
        async with client.stream(question, top_k=1, max_tokens=32) as stream:
            async for _ in stream:
                if number % LEFT == 0:
                    return None
            return stream.text

    heard: list[str] = []
    async with AsyncClient(endpoint, model=model, timeout=120) as client:
        for _ in range(ROUNDS):
            replies = await asyncio.gather(*(one(client, n) for n in range(AT_ONCE)))
            heard += [reply for reply in replies if reply is not None]
    return heard


@pytest.mark.parametrize("model", ["llmjp", "ensemble"])
def test_every_reply_is_whole_and_every_slot_is_freed(server: TritonServer, model: str) -> None:
    heard = asyncio.run(talk(server.grpc_endpoint, model))
    assert len(heard) == ROUNDS * (AT_ONCE - AT_ONCE // LEFT)
    assert set(heard) == {"日本の首都は東京です。"}
    until(lambda: probe(server)[1]["active"] == 0, "every slot is free")
    assert probe(server)[1]["waiting"] == 0
