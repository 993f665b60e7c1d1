"""The command lines: one tritonserver per rank."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from llmjp_runtime.server.command import build_command, build_world_command
from llmjp_runtime.server.endpoints import Endpoints
from tests.runtime.server.test_process import INSTALLATION

LEADER = build_command(
    INSTALLATION,
    repository=Path("/r"),
    backends=Path("/b"),
    endpoints=Endpoints(),
    shm_prefix="p_",
    secret="s3cret",
)


def ranks(world_size: int) -> list[list[str]]:
    """Each rank's tritonserver command."""
    line = build_world_command(LEADER, world_size)
    head, rest = line[: line.index("-n")], line[line.index("-n") :]
    assert head == ["mpirun", "--allow-run-as-root", "--bind-to", "none"]
    groups = [list(group) for colon, group in groupby(rest, ":".__eq__) if not colon]
    assert all(group[:2] == ["-n", "1"] for group in groups)
    return [group[2:] for group in groups]


def test_one_rank_needs_no_mpirun() -> None:
    assert build_world_command(LEADER, 1) == LEADER


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


def test_whatever_clients_need_not_is_closed() -> None:
    closed = "shared-memory,model-config,model-repository,statistics,trace,logging"
    for option in ("--http-restricted-api", "--grpc-restricted-protocol"):
        assert f"{option}={closed}:llmjp-administration=s3cret" in LEADER


def test_shared_memory_is_not_shared_between_ranks() -> None:
    prefixes = [
        [option for option in rank if "shm-region-prefix-name" in option] for rank in ranks(4)
    ]
    assert len({option for (option,) in prefixes}) == 4
    assert all("=p_" in option for (option,) in prefixes)
