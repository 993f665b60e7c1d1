from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from llmjp_runtime.executor.torch.loader import load_model
from llmjp_runtime.executor.torch.model import ParallelLlama

from .checkpoints import random_llama, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """More threads than free cores make small operations slow, not fast."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def llama() -> Any:
    """A random transformers Llama in float32; nobody changes it."""
    return random_llama()


@pytest.fixture(scope="session")
def checkpoint(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`llama` for two ranks; nobody changes it."""
    return write_checkpoint(llama, tmp_path_factory.mktemp("checkpoint"), tp=2)


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> ParallelLlama:
    """`checkpoint`, loaded; nobody changes it."""
    return load_model(checkpoint, device="cpu")
