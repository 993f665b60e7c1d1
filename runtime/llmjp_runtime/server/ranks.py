"""The command line that runs one tritonserver per rank of an engine.

TensorRT-LLM's leader mode (triton_backend/scripts/launch_triton_server.py): as many MPI processes
as the engine has ranks, each a tritonserver with the model `tensorrt_llm`. Rank 0 takes requests;
the others never finish loading, and serve no port here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_runtime.executor.tensorrt_model import ENGINE_MODEL_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

MPIRUN = "mpirun"
_LISTENING = ("--http-", "--grpc-", "--metrics-", "--allow-gpu-metrics")
SHM_PREFIX = "--backend-config=python,shm-region-prefix-name="
"""Of the names that Triton's python backend gives to its regions; each rank has its own."""


def world_command(leader: Sequence[str], world_size: int) -> list[str]:
    """What to run for all ranks (pure).

    Args:
        leader: tritonserver's command line on rank 0, its only one where there is one rank.
        world_size: tp * pp of the engine.
    """
    if world_size == 1:
        return list(leader)
    ranks = [list(leader), *(_follower(leader, rank) for rank in range(1, world_size))]
    # Unbound: mpirun pins each of two processes to one core, and everything they start with them.
    line = [MPIRUN, "--allow-run-as-root", "--bind-to", "none"]
    for rank, command in enumerate(ranks):
        line += [":"] if rank else []
        line += ["-n", "1", *command]
    return line


def _follower(leader: Sequence[str], rank: int) -> list[str]:
    kept = [
        f"{option}r{rank}_" if option.startswith(SHM_PREFIX) else option
        for option in leader
        if not option.startswith(_LISTENING)
    ]
    return [
        *kept,
        "--model-control-mode=explicit",
        f"--load-model={ENGINE_MODEL_NAME}",
        "--allow-http=false",
        "--allow-grpc=false",
        "--allow-metrics=false",
    ]
