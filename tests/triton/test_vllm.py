"""Backend vllm for real: vLLM on the CPU in a real tritonserver, over a plain checkpoint."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from llmjp_client import Client, ServerError, Unsupported
from llmjp_runtime.server.process import TritonServer
from llmjp_runtime.server.processes import list_descendants
from tests.support.triton import EXAMPLE, serving
from tests.support.vllm_cpu import vllm_in_environment
from tests.triton.test_failures import until

pytestmark = pytest.mark.slow

QUESTIONS = (
    "日本の首都はどこですか。",
    "自然言語処理とは何ですか。",
    "三足す四はいくつですか。",
    "「大きい」の反対の言葉は何ですか。",
    "一週間は何日ありますか。",
    "冬の次の季節は何ですか。",
)
GREEDY = {"top_k": 1, "repetition_penalty": 1.0, "max_tokens": 40}


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    log = tmp_path_factory.mktemp("vllm") / "triton.log"
    with (
        vllm_in_environment(),
        serving(EXAMPLE, log, backend="vllm", max_batch_size=8, max_context=256) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def ours(vllm: TritonServer) -> Iterator[Client]:
    with Client(vllm.grpc_endpoint) as client:
        yield client


def ask(client: Client, question: str, **options: object) -> object:
    return client.chat([{"role": "user", "content": question}], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("question", QUESTIONS)
def test_greedy_answers_are_the_torch_executors(
    client: Client, ours: Client, question: str
) -> None:
    messages = [{"role": "user", "content": question}]
    expected = client.chat(messages, **GREEDY)  # type: ignore[arg-type]
    found = ours.chat(messages, log_probs=True, **GREEDY)  # type: ignore[arg-type]
    assert found.text == expected.text
    assert (found.output_ids, found.finish_reason) == (expected.output_ids, "stop")
    assert found.usage == expected.usage
    assert len(found.log_probs) == len(found.output_ids)
    assert max(found.log_probs) <= 0


def test_log_probabilities_are_the_torch_executors(client: Client, ours: Client) -> None:
    # Of a greedy choice vLLM tells them at temperature 1, whatever was asked for.
    options = {**GREEDY, "temperature": 1.0, "repetition_penalty": 1.3, "max_tokens": 12}
    options["log_probs"] = True
    expected = client.generate("昔々あるところに", **options)  # type: ignore[arg-type]
    found = ours.generate("昔々あるところに", **options)  # type: ignore[arg-type]
    same = 0
    for pair in zip(found.output_ids, expected.output_ids, strict=False):
        if pair[0] != pair[1]:
            break
        same += 1
    assert same >= 4, "bfloat16 and float32 agree at the beginning"
    assert found.log_probs[:same] == pytest.approx(expected.log_probs[:same], abs=0.1)


def test_a_seed_gives_the_same_reply_and_none_gives_others(ours: Client) -> None:
    options = {"temperature": 1.5, "max_tokens": 24, "top_p": 1.0}
    seeded = {ours.generate("春は", seed=7, **options).text for _ in range(3)}  # type: ignore[arg-type]
    free = {ours.generate("春は", **options).text for _ in range(6)}  # type: ignore[arg-type]
    assert len(seeded) == 1
    assert len(free) > 1


def test_what_vllm_is_asked_for_takes_effect(ours: Client) -> None:
    least = ours.generate("日本の首都は", min_tokens=30, max_tokens=30, top_k=1)
    assert least.usage.output_tokens == 30
    assert least.finish_reason == "length"
    with pytest.raises(Unsupported, match="bad_words: not supported by backend vllm"):
        ours.generate("春は", bad_words=["夏"], max_tokens=3)


def test_a_stream_that_is_left_frees_its_slot(ours: Client, vllm: TritonServer) -> None:
    with ours.stream("春は", min_tokens=200, max_tokens=200, temperature=1.0) as stream:
        next(iter(stream))
    until(lambda: b'"active": 0' in get(vllm, "/readyz"), "the slot is free")


def get(server: TritonServer, path: str) -> bytes:
    port = server.settings.health_port
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bytes(answer.read())
    except HTTPError as refused:
        return refused.read()


def test_the_death_of_vllms_core_ends_streams_and_readiness(
    ours: Client, vllm: TritonServer
) -> None:
    """The last test of this file: nothing serves afterwards."""
    cores = [pid for pid in list_descendants(vllm.pid) if b"EngineCore" in read_command(pid)]
    assert cores
    with ours.stream("春は", min_tokens=200, max_tokens=200, temperature=1.0) as stream:
        next(iter(stream))
        os.kill(cores[0], signal.SIGKILL)
        with pytest.raises(ServerError, match="the engine failed: vLLM's core ended"):
            list(stream)
    until(lambda: b"vLLM's core ended" in get(vllm, "/livez"), "it is told")
    assert b'"ok": false' in get(vllm, "/readyz")


def read_command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
