from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmjp_runtime.text.tokenizer import TextTokenizer
from tests.runtime.front.service_bench import Bench
from tests.support.shared import ROOT


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.load(ROOT / "examples" / "tiny-model" / "checkpoint")


@pytest.fixture
def bench(tokenizer: TextTokenizer) -> Iterator[Bench]:
    bench = Bench(tokenizer)
    yield bench
    bench.service.close()
    assert bench.service.num_streams == 0
