from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmjp_runtime.text.tokenizer import TextTokenizer
from tests.runtime.text import small_tokenizer
from tests.support.shared import shared

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def real_folder() -> Path:
    return shared("llm-jp-tokenizer-v3.0")


@pytest.fixture(scope="session")
def real(real_folder: Path) -> TextTokenizer:
    """The tokenizer of every llm-jp-3 model."""
    return TextTokenizer.load(real_folder)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    """Another numbering and other names, to catch what is assumed of the real one."""
    return TextTokenizer.load(small_tokenizer.write(tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="session")
def hf(real_folder: Path) -> Any:
    """What transformers makes of the same files."""
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(real_folder)
