"""The processes without which a ready server cannot answer, and which of them is gone.

Triton stays ready when a model's process dies, and starts another one at the next request, which
knows nothing of the requests that were running. So the first processes are remembered, by id: one
that is gone is never forgiven. Nothing here depends on time: a pause of the machine is no death.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_runtime.engine.proxy import HOST_MODULE
from llmjp_runtime.front.repository import ENSEMBLE_NAME, MODEL_NAME, locate_model_file
from llmjp_runtime.server.processes import find_by_argument, is_alive, list_descendants

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_runtime.settings import Backend

_NAMES = {
    MODEL_NAME: "the front model's process",
    ENSEMBLE_NAME: f"the process of model {ENSEMBLE_NAME}",
}
"""What people call the process of each model."""
_HOSTED: Backend = "torch"
"""The backend whose executor has a process of its own."""


class ModelProcesses:
    """The processes of a ready server's models."""

    def __init__(self, server: int, repository: Path, backend: Backend) -> None:
        """Find them now; one that is not there counts as dead.

        Args:
            server: process id of tritonserver, or of what started it.
            repository: its model repository.
            backend: what the front model was told to load.
        """
        started_with = {
            said: str(locate_model_file(repository, model)) for model, said in _NAMES.items()
        }
        if backend == _HOSTED:
            started_with["the engine's process"] = HOST_MODULE
        below = list_descendants(server)
        self._pids = {said: find_by_argument(below, each) for said, each in started_with.items()}

    def find_dead(self) -> str | None:
        """Return what to call the first that is gone; None while all run."""
        for said, pid in self._pids.items():
            if pid is None or not is_alive(pid):
                return said
        return None
