"""A request's parameters: whatever it carries that is no tensor.

Over HTTP every key that names no input becomes a parameter, and over gRPC clients may send any, so
a misspelt option would be ignored in silence.
"""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from llmjp_runtime.front.request import InvalidArgument
from llmjp_runtime.front.tensors import INPUTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TRITONS = frozenset({"id", "timeout", "priority", "sequence_id", "sequence_start", "sequence_end"})
"""Triton's own, as are all that begin with `triton_`; it acts on them before a model does."""

FORWARDED_HEADERS = frozenset({"traceparent", "tracestate", "baggage", "x-request-id"})
"""Headers reach a model as parameters only (`--grpc-header-forward-pattern`, and HTTP's)."""

OTHER_NAMES = {
    "len_penalty": "length_penalty",
    "max_length": "max_tokens",
    "max_new_tokens": "max_tokens",
    "n": "num_return_sequences",
    "prompt": "text_input",
    "random_seed": "seed",
    "request_output_len": "max_tokens",
    "stop_sequences": "stop_words",
    "stop_strings": "stop_words",
    "streaming": "stream",
}
"""What TensorRT-LLM, transformers and OpenAI call our inputs, where the spelling is far off."""

_NAMES = tuple(spec.name for spec in INPUTS)
_LONGEST_NAME = 64
_TRACEPARENT = re.compile(
    "(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-[0-9a-f]{2}"
    "(?P<rest>-.*)?"
)
MAX_TIMEOUT_US = (1 << 63) - 1


def parse_parameters(parameters: str) -> dict[str, object]:
    """Parse Triton's JSON object of parameters, which may be empty."""
    return dict(json.loads(parameters)) if parameters else {}


def select_headers(parameters: Mapping[str, object]) -> dict[str, str]:
    """Return the forwarded headers among the parameters, by their names in lower case."""
    named = {name.lower(): value for name, value in parameters.items()}
    return {n: v for n, v in named.items() if n in FORWARDED_HEADERS and isinstance(v, str)}


def find_trace_id(parameters: Mapping[str, object]) -> str | None:
    """Return the trace that a request belongs to, by W3C's `traceparent`; None if it names none.

    One that is malformed counts as none, as the recommendation asks.
    """
    match = _TRACEPARENT.fullmatch(select_headers(parameters).get("traceparent", ""))
    if match is None or match["version"] == "ff" or (match["rest"] and match["version"] == "00"):
        return None
    return match["trace"] if int(match["trace"], 16) and int(match["parent"], 16) else None


def check_parameters(names: Iterable[str]) -> None:
    """Refuse parameters that nothing acts on.

    Raises:
        InvalidArgument: names the first of them and the input with the nearest name.
    """
    for name in names:
        if name in TRITONS or name.startswith("triton_") or name.lower() in FORWARDED_HEADERS:
            continue
        near = _find_nearest(name)
        advice = f"; did you mean {near}?" if near else f"; the inputs are {', '.join(_NAMES)}"
        raise InvalidArgument(f"{name[:40]!a}: no such input or parameter{advice}")


def _find_nearest(name: str) -> str | None:
    # No name of ours is nearly as long, and the comparison takes a second for a megabyte.
    plain = name[:_LONGEST_NAME].lower().replace("-", "_").removeprefix("runtime_")
    if plain in OTHER_NAMES:
        return OTHER_NAMES[plain]
    return next(iter(get_close_matches(plain, _NAMES, n=1)), None)


def check_timeout(timeout_us: int) -> None:
    """Refuse a negative timeout, which Triton gives as a huge one.

    Raises:
        InvalidArgument: it is negative.
    """
    if timeout_us > MAX_TIMEOUT_US:
        raise InvalidArgument("timeout: must be >= 0 (microseconds; 0 is none)")
