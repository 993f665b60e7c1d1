"""The processes without which a ready server cannot answer, and which of them is gone.

Triton stays ready when a model's process dies, and starts another one at the next request, which
knows nothing of the requests that were running. So the first processes are remembered, by id: one
that is gone is never forgiven. Nothing here depends on time: a pause of the machine is no death.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_runtime.front.repository import ENSEMBLE_NAME, MODEL_NAME, locate_model_file
from llmjp_runtime.server.processes import find_by_argument, is_alive, list_descendants

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = {
    MODEL_NAME: "the front model's process",
    ENSEMBLE_NAME: f"the process of model {ENSEMBLE_NAME}",
}
"""What people call the process of each model."""


class ModelProcesses:
    """The processes of a ready server's models."""

    def __init__(self, server: int, repository: Path) -> None:
        """Find them now; one that is not there counts as dead.

        Args:
            server: process id of tritonserver, or of what started it.
            repository: its model repository.
        """
        below = list_descendants(server)
        self._pids = {
            said: find_by_argument(below, str(locate_model_file(repository, model)))
            for model, said in _NAMES.items()
        }

    def find_dead(self) -> str | None:
        """Return what to call the first that is gone; None while all run."""
        for said, pid in self._pids.items():
            if pid is None or not is_alive(pid):
                return said
        return None
