"""Requests that break a limit are refused with the limit's name."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import pytest

from llmjp_runtime.errors import RequestRefused
from llmjp_runtime.executor.admission import check_request
from llmjp_runtime.executor.protocol import ExecutorLimits, SamplingParams

from .torch.running import request

LIMITS = ExecutorLimits(max_context=32, vocab_size=100, max_batch_size=4)
SAMPLING = SamplingParams(max_tokens=8)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_tokens": 30, "temperature": 0, "top_k": 10**9, "top_p": 1e-9, "min_tokens": 99},
        {"embedding_bias": ((99, -5.0),), "bad_words": ((0, 99), (5,)), "end_ids": frozenset({99})},
        {"presence_penalty": -2.0, "frequency_penalty": 2.0, "repetition_penalty": 0.1},
    ],
)
def test_within_the_limits(changes: dict[str, Any]) -> None:
    check_request(request([1, 99], dataclasses.replace(SAMPLING, **changes)), LIMITS)


@pytest.mark.parametrize(
    ("prompt", "changes", "says"),
    [
        ([], {}, "prompt_ids is empty"),
        ([100], {}, "prompt_ids has an id outside of [0, 100)"),
        ([-1], {}, "prompt_ids has an id outside"),
        ([1] * 25, {}, "prompt (25) and max_tokens (8) exceed the context of 32"),
        ([1], {"max_tokens": 0}, "max_tokens is 0"),
        ([1], {"min_tokens": -1}, "min_tokens is -1"),
        ([1], {"temperature": math.nan}, "temperature is nan"),
        ([1], {"temperature": -0.5}, "temperature is -0.5"),
        ([1], {"temperature": math.inf}, "temperature is inf"),
        ([1], {"top_k": -1}, "top_k is -1"),
        ([1], {"top_p": 0.0}, "top_p is 0.0: must be in (0, 1]"),
        ([1], {"top_p": 1.5}, "top_p is 1.5"),
        ([1], {"top_p": math.nan}, "top_p is nan"),
        ([1], {"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ([1], {"presence_penalty": math.inf}, "presence_penalty is inf"),
        ([1], {"frequency_penalty": math.nan}, "frequency_penalty is nan"),
        ([1], {"end_ids": frozenset({100})}, "end_ids has an id outside"),
        ([1], {"bad_words": ((5,), ())}, "bad_words has an empty sequence"),
        ([1], {"bad_words": ((5, 200),)}, "bad_words has an id outside"),
        ([1], {"embedding_bias": ((100, 1.0),)}, "embedding_bias has an id outside"),
        ([1], {"embedding_bias": ((1, math.nan),)}, "embedding_bias has a bias that is not finite"),
    ],
)
def test_beyond_a_limit(prompt: list[int], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestRefused, match=re.escape(says)) as caught:
        check_request(request(prompt, dataclasses.replace(SAMPLING, **changes)), LIMITS)
    assert isinstance(caught.value, ValueError)
