"""A training's state on disk, so that one that was stopped can go on where it was."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import LlamaForCausalLM

    from .encoding import Encoded
    from .training import Recipe


class StateUnusable(Exception):
    """The state file is not one, or belongs to a training with other settings or other data."""


@dataclass(frozen=True, slots=True)
class Training:
    """Everything that changes from step to step, but for the order of the data, which is seeded."""

    model: LlamaForCausalLM
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    def state(self) -> dict[str, Any]:
        """All of it as tensors and plain values."""
        on_gpu = self.model.device.type == "cuda"
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state(self.model.device) if on_gpu else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        if self.model.device.type == "cuda" and state["random_gpu"] is not None:
            torch.cuda.set_rng_state(state["random_gpu"], self.model.device)


@dataclass(frozen=True, slots=True)
class StateFile:
    """Where a training keeps its state.

    Attributes:
        path: The file; it is replaced as a whole, so a kill leaves the last complete state.
        every: Steps between two states.
    """

    path: Path
    every: int = 500

    def save(self, training: Training, step: int, belongs_to: str) -> None:
        """Keeps the state after `step` steps."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        torch.save({"step": step, "belongs_to": belongs_to, **training.state()}, partial)
        partial.replace(self.path)

    def restore(self, training: Training, belongs_to: str) -> int:
        """Goes back to the kept state, if there is one.

        Returns:
            The number of steps that are done.

        Raises:
            StateUnusable: The file is damaged or of another training.
        """
        if not self.path.exists():
            return 0
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            owner, step = state["belongs_to"], int(state["step"])
        except Exception as error:  # unpicklers raise anything at bytes that are no pickle
            raise StateUnusable(f"{self.path} is not a training's state: delete it") from error
        if owner != belongs_to:
            raise StateUnusable(
                f"{self.path} belongs to a training with other settings or questions: "
                "give the same ones, or delete it"
            )
        training.restore(state)
        return step


def fingerprint(data: Sequence[Encoded], recipe: Recipe) -> str:
    """What a state must share with the training that goes on from it."""
    digest = hashlib.sha256(repr(recipe).encode())
    for entry in data:
        digest.update(repr((entry.prompt, entry.reply)).encode())
    return digest.hexdigest()
