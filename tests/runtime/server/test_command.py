"""One tritonserver per rank, and the machine that must hold them."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from llmjp_runtime.errors import RuntimeFailure, TritonMissing, UnsupportedModel
from llmjp_runtime.server.command import command_line, world_command
from llmjp_runtime.server.listen import Listen
from llmjp_runtime.server.preflight import EngineHost, check_engine_host
from tests.runtime.executor.tensorrt.test_model_config import ENGINE
from tests.runtime.server.test_process import INSTALLATION

LEADER = command_line(
    INSTALLATION,
    repository=Path("/r"),
    backends=Path("/b"),
    listen=Listen(),
    shm_prefix="p_",
)
HOST = EngineHost(has_backend=True, has_mpirun=True, tensorrt_llm="1.2.1", num_gpus=8)


def ranks(world_size: int) -> list[list[str]]:
    """Each rank's tritonserver command."""
    line = world_command(LEADER, world_size)
    head, rest = line[: line.index("-n")], line[line.index("-n") :]
    assert head == ["mpirun", "--allow-run-as-root", "--bind-to", "none"]
    groups = [list(group) for colon, group in groupby(rest, ":".__eq__) if not colon]
    assert all(group[:2] == ["-n", "1"] for group in groups)
    return [group[2:] for group in groups]


def test_one_rank_needs_no_mpirun() -> None:
    assert world_command(LEADER, 1) == LEADER


@pytest.mark.parametrize("world_size", [2, 8])
def test_every_rank_runs_tritonserver_over_the_same_models(world_size: int) -> None:
    found = ranks(world_size)
    assert len(found) == world_size
    for rank in found:
        assert rank[0] == LEADER[0]
        assert {"--model-repository=/r", "--backend-directory=/b"} <= set(rank)
        assert "--disable-auto-complete-config" in rank


def test_the_first_rank_is_the_server_alone() -> None:
    assert ranks(4)[0] == LEADER


def test_the_others_load_the_engine_only_and_have_no_ports() -> None:
    _, *others = ranks(4)
    for rank in others:
        assert "--load-model=tensorrt_llm" in rank
        assert "--model-control-mode=explicit" in rank
        assert {"--allow-http=false", "--allow-grpc=false", "--allow-metrics=false"} <= set(rank)
        assert not [option for option in rank if "-port" in option or "-address" in option]


def test_shared_memory_is_not_shared_between_ranks() -> None:
    prefixes = [
        [option for option in rank if "shm-region-prefix-name" in option] for rank in ranks(4)
    ]
    assert len({option for (option,) in prefixes}) == 4
    assert all("=p_" in option for (option,) in prefixes)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"has_backend": False}, TritonMissing, "no backend tensorrtllm.*nvcr.io"),
        ({"has_mpirun": False}, TritonMissing, "mpirun is not on PATH.*8 ranks"),
        ({"tensorrt_llm": "1.1.0"}, UnsupportedModel, "built by TensorRT-LLM 1.2.1, but 1.1.0"),
        ({"num_gpus": 4}, UnsupportedModel, r"needs 8 GPUs \(tp 4 x pp 2\), but there are 4"),
    ],
)
def test_a_machine_that_cannot_run_the_engine(
    change: dict[str, object], error: type[RuntimeFailure], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        check_engine_host(ENGINE, replace(HOST, **change))  # type: ignore[arg-type]
    assert caught.value.exit_code == 6


def test_a_machine_that_can() -> None:
    check_engine_host(ENGINE, HOST)
    check_engine_host(ENGINE, replace(HOST, tensorrt_llm=None, num_gpus=None))
    single = replace(ENGINE, tensor_parallel=1, pipeline_parallel=1)
    check_engine_host(single, replace(HOST, has_mpirun=False, num_gpus=1))
