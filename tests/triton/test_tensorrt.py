"""Backend tensorrt end to end: what holds for `torch` holds over the C++ model's tensors.

The C++ backend is a stand-in (tests/support/tensorrt_llm_stand_in); front model, model repository,
calls from model to model and Triton are real.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmjp_client import Client, InvalidRequest, LlmJpError
from llmjp_runtime.errors import ServerFailed
from llmjp_runtime.server.process import TritonServer
from tests.support.engine import engine_artefact, stand_in_environment
from tests.support.shared import ROOT, shared
from tests.support.tensorrt_llm_stand_in import POISON
from tests.support.triton import EXAMPLE, build_artefact, serving
from tests.triton.test_commands import (  # noqa: F401  collected again, over an engine
    test_serve_ends_on_sigterm,
    test_serve_ends_when_a_models_process_dies_so_that_no_client_waits,
)
from tests.triton.test_failures import (  # noqa: F401  likewise
    ENDLESS,
    QUESTION,
    is_alive,
    list_descendants,
    probe,
    test_a_deadline_reaches_the_server,
    test_http_streams_and_answers,
    test_leaving_a_stream_frees_its_slot,
    test_readiness_tells_a_dead_model_from_a_living_server,
    test_stopping_the_server_leaves_nothing,
    until,
)
from tests.triton.test_prompts import all_of
from tests.triton.test_requests import (  # noqa: F401  likewise
    raw,
    test_a_prompt_by_its_ids_is_the_same_prompt,
    test_a_stream_equals_the_whole_reply,
    test_bad_requests_are_refused_in_words,
    test_bad_words_are_never_completed,
    test_ensemble_has_nvidias_behaviour,
    test_ensemble_passes_refusals_on,
    test_max_tokens_beyond_what_is_left_is_clamped,
    test_same_seed_same_reply,
    test_stop_strings_end_the_reply,
    test_the_client_raises_what_was_refused,
    test_values_out_of_range_are_refused,
)

MPIRUN = ROOT / "tests" / "support" / "mpirun_stand_in"


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact that the stand-in runs."""
    return build_artefact(EXAMPLE, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module", autouse=True)
def _stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stand_in_environment(tmp_path_factory.mktemp("home")).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def artefact(ranks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engine_artefact(ranks, tmp_path_factory.mktemp("engine") / "artefact")


@pytest.fixture(scope="module")
def server(artefact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    with serving(artefact, tmp_path_factory.mktemp("triton") / "triton.log") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: TritonServer) -> Iterator[Client]:
    with Client(server.grpc_endpoint) as client:
        yield client


def test_every_stream_is_the_whole_reply(server: TritonServer) -> None:
    prompts = shared("prompts-ja.txt").read_text("utf-8").splitlines()[::10]
    faults = asyncio.run(all_of(server.grpc_endpoint, prompts, at_once=20))
    # What the model itself spells wrong is no fault of the way it comes.
    assert {p: fault for p, fault in faults.items() if not fault.startswith("not whole")} == {}


def test_replies_are_those_of_the_torch_executor(
    client: Client, ranks: Path, tmp_path: Path
) -> None:
    options = {"top_k": 1, "repetition_penalty": 1.2, "presence_penalty": 0.5, "max_tokens": 24}
    questions = [
        "日本の首都はどこですか。",
        "三たす四はいくつですか。",
        "「暑い」の反対は何ですか。",
    ]
    conversations = [[{"role": "user", "content": question}] for question in questions]
    with serving(ranks, tmp_path / "log") as plain, Client(plain.grpc_endpoint) as direct:
        for messages in conversations:
            expected = direct.chat(messages, log_probs=True, **options)  # type: ignore[arg-type]
            found = client.chat(messages, log_probs=True, **options)  # type: ignore[arg-type]
            assert (found.text, found.finish_reason) == (expected.text, expected.finish_reason)
            assert (found.output_ids, found.usage) == (expected.output_ids, expected.usage)
            assert found.log_probs == pytest.approx(expected.log_probs, abs=1e-4)


def test_a_request_that_the_engine_fails_is_an_error_and_the_rest_goes_on(
    server: TritonServer, client: Client
) -> None:
    with pytest.raises(LlmJpError, match="the engine failed: Executor failed") as caught:
        client.generate([POISON], max_tokens=4)
    assert "stack trace" not in str(caught.value)
    until(lambda: probe(server)[1]["active"] == 0, "the probe is over")
    assert probe(server) == (200, {"ok": True, "reason": "ready", "active": 0, "waiting": 0})


def test_an_engine_that_fails_every_request_is_said_at_once(ranks: Path, tmp_path: Path) -> None:
    artefact = engine_artefact(ranks, tmp_path / "engine", broken=True)
    with (
        pytest.raises(ServerFailed, match="the engine failed: Executor failed process"),
        serving(artefact, tmp_path / "log"),
    ):
        pass


def test_what_the_engine_cannot_do_is_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="top_k: must be at most 1024"):
        client.generate("むかし", top_k=2000)


def test_every_rank_has_its_server_and_only_the_first_has_ports(
    ranks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([str(MPIRUN), os.environ["PATH"]]))
    artefact = engine_artefact(ranks, tmp_path / "engine", tp=2)
    with (
        serving(artefact, tmp_path / "log") as server,
        Client(server.grpc_endpoint) as client,
    ):
        assert client.chat(QUESTION, top_k=1, max_tokens=4).usage.output_tokens == 4
        pids = {server.pid, *list_descendants(server.pid)}
        lines = [Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in pids]
        servers = [line for line in lines if line[0].endswith("/bin/tritonserver")]
        assert sorted("--load-model=tensorrt_llm" in line for line in servers) == [False, True]
        ports = [sum("-port=" in option for option in line) for line in servers]
        assert sorted(ports) == [0, 3]
    until(lambda: not any(map(is_alive, pids)), "no process is left")
