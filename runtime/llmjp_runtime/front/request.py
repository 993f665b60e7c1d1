"""Parses a request's tensors: every rule about values, and no tokenizer.

Pure. Each refusal names the tensor and what is allowed, and never repeats the value of a text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from llmjp_runtime.executor.protocol import Feature

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from llmjp_runtime.settings import SamplingDefaults

    Tensors = Mapping[str, NDArray[np.generic]]
    """Input name to array, batch dimension included; STRING is an object array of bytes."""


class Code(StrEnum):
    """The first word of an error, in brackets; the client maps it to an exception."""

    INVALID_ARGUMENT = "invalid_argument"
    UNIMPLEMENTED = "unimplemented"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class RequestError(Exception):
    """A request is refused or failed. `str()` is what the client sees."""

    def __init__(self, code: Code, message: str) -> None:
        """Keep the code; the message is one line."""
        super().__init__(f"[{code}] {message}")
        self.code = code


class InvalidArgument(RequestError):
    """A value that is not allowed."""

    def __init__(self, message: str) -> None:
        """Take the message, which names the tensor and what is allowed."""
        super().__init__(Code.INVALID_ARGUMENT, message)


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Cancel the running request of this id (`stop` is true)."""


@dataclass(frozen=True, slots=True)
class ReadyRequest:
    """Say whether requests may come here (`ready` is true)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRequest:
    """A request for a reply. Exactly one of `text`, `messages`, `input_ids` is given."""

    text: bytes | None
    messages: bytes | None
    input_ids: tuple[int, ...] | None
    max_tokens: int | None
    min_tokens: int
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int | None
    end_id: int | None
    stop_words: tuple[bytes, ...]
    bad_words: tuple[bytes, ...]
    embedding_bias: tuple[tuple[bytes, float], ...]
    stream: bool
    include_prompt: bool
    log_probs: bool
    num_top: int

    def list_needed_features(self) -> dict[Feature, str]:
        """Return the features that the executor must have, and the tensor that needs each."""
        asked = {
            Feature.LOG_PROBS: ("return_log_probs", self.log_probs),
            Feature.TOP_LOG_PROBS: ("top_log_probs", self.num_top),
            Feature.BAD_WORDS: ("bad_words", self.bad_words),
            Feature.EMBEDDING_BIAS: ("embedding_bias_words", self.embedding_bias),
            Feature.MIN_TOKENS: ("min_tokens", self.min_tokens),
            Feature.PRESENCE_PENALTY: ("presence_penalty", self.presence_penalty),
            Feature.FREQUENCY_PENALTY: ("frequency_penalty", self.frequency_penalty),
        }
        return {feature: name for feature, (name, wanted) in asked.items() if wanted}


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Allowed values of a number."""

    low: float
    high: float
    low_open: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        return math.isfinite(value) and above and value <= self.high

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'>' if self.low_open else '>='} {self.low:g}"
        return f"in {'(' if self.low_open else '['}{self.low:g}, {self.high:g}]"


RANGES = {
    "max_tokens": NumberRange(1, math.inf),
    "min_tokens": NumberRange(0, math.inf),
    "temperature": NumberRange(0.0, math.inf),
    "top_k": NumberRange(0, math.inf),
    "top_p": NumberRange(0.0, 1.0, low_open=True),
    "repetition_penalty": NumberRange(1e-6, 1e6),
    "presence_penalty": NumberRange(-100.0, 100.0),
    "frequency_penalty": NumberRange(-100.0, 100.0),
    "end_id": NumberRange(0, math.inf),
    "top_log_probs": NumberRange(0, 20),
    "seed": NumberRange(0, math.inf),
    "embedding_bias_weights": NumberRange(-1e30, 1e30),
}
"""Allowed values, by tensor. NaN and infinities are in none of them. Bounds far beyond any use keep
logits finite."""

IGNORED = frozenset({"pad_id", "return_num_input_tokens", "return_num_output_tokens"})
"""Nothing is padded, and both counts are always returned."""

NEUTRAL_VALUES: dict[str, tuple[float, str]] = {
    "beam_width": (1, "beam search is not supported"),
    "num_return_sequences": (1, "one reply per request: send the request again"),
    "length_penalty": (1, "it only acts in beam search, which is not supported"),
    "return_context_logits": (0, "logits are not returned"),
    "return_generation_logits": (0, "logits are not returned"),
    "return_perf_metrics": (0, "see the metrics port instead"),
}
"""Tensors with one value that changes nothing; any other is refused with the reason."""

UNSUPPORTED = {
    "decoder_text_input": "the model has no encoder",
    "prompt_embedding_table": "prompt tuning is not supported",
    "prompt_table_extra_id": "prompt tuning is not supported",
    "prompt_vocab_size": "prompt tuning is not supported",
    "lora_task_id": "LoRA is not supported",
    "lora_weights": "LoRA is not supported",
    "lora_config": "LoRA is not supported",
    "guided_decoding_guide_type": "guided decoding is not supported",
    "guided_decoding_guide": "guided decoding is not supported",
}
"""Tensors of NVIDIA's ensemble that are refused whenever they are present."""


def parse_request(tensors: Tensors, defaults: SamplingDefaults) -> ClientRequest:
    """Parse the tensors of a request for a reply.

    Raises:
        RequestError: a value is not allowed or not supported.
    """
    reader = _TensorReader(tensors)
    _refuse_unsupported(reader)
    sources = [name for name in ("text_input", "messages", "input_ids") if name in tensors]
    if len(sources) != 1:
        found = "none" if not sources else " and ".join(sources)
        raise InvalidArgument(
            f"exactly one of text_input, messages, input_ids must be given, found {found}"
        )
    num_top = reader.read_integer("top_log_probs") or 0
    return ClientRequest(
        text=reader.read_text("text_input"),
        messages=reader.read_text("messages"),
        input_ids=reader.read_integers("input_ids"),
        max_tokens=reader.read_integer("max_tokens"),
        min_tokens=reader.read_integer("min_tokens") or 0,
        temperature=reader.read_number("temperature", defaults.temperature),
        top_k=_or(reader.read_integer("top_k"), defaults.top_k),
        top_p=reader.read_number("top_p", defaults.top_p),
        repetition_penalty=reader.read_number("repetition_penalty", defaults.repetition_penalty),
        presence_penalty=reader.read_number("presence_penalty", 0.0),
        frequency_penalty=reader.read_number("frequency_penalty", 0.0),
        seed=reader.read_integer("seed"),
        end_id=reader.read_integer("end_id"),
        stop_words=reader.read_words("stop_words"),
        bad_words=reader.read_words("bad_words"),
        embedding_bias=_read_embedding_bias(reader),
        stream=reader.read_flag("stream", default=False),
        include_prompt=not reader.read_flag("exclude_input_in_output", default=True),
        log_probs=num_top > 0 or reader.read_flag("return_log_probs", default=False),
        num_top=num_top,
    )


def parse_command(tensors: Tensors) -> StopRequest | ReadyRequest | None:
    """Return the command that a request is, None for one that asks for a reply.

    Reads nothing else of it.

    Raises:
        InvalidArgument: a flag is not one value.
    """
    reader = _TensorReader(tensors)
    if reader.read_flag("stop", default=False):
        return StopRequest()
    return ReadyRequest() if reader.read_flag("ready", default=False) else None


def apply_nvidia_defaults(tensors: Tensors) -> Tensors:
    """Return the tensors, completed with the defaults of NVIDIA's ensemble.

    Greedy unless top_k or top_p is given (TensorRT-LLM's default of both), temperature 1, no
    repetition penalty, and the prompt included in an unstreamed reply. A top_p of 0 or less is not
    given, and length_penalty is nothing without beams: NVIDIA's clients send both.
    """
    import numpy as np

    full = dict(tensors)
    if "stop" in full or "ready" in full:
        return full
    if _is_single(full.get("top_p"), lambda top_p: top_p <= 0):
        del full["top_p"]
    if "beam_width" not in full or _is_single(full["beam_width"], lambda width: width == 1):
        full.pop("length_penalty", None)
    if "top_k" not in full and "top_p" not in full:
        full["top_k"] = np.array([[1]], np.int32)
    for name in ("temperature", "top_p", "repetition_penalty"):
        full.setdefault(name, np.array([[1.0]], np.float32))
    full.setdefault("exclude_input_in_output", np.array([[False]]))
    return full


def _is_single(tensor: NDArray[np.generic] | None, test: Callable[[float], bool]) -> bool:
    """Return whether the tensor is one number that passes the test."""
    return tensor is not None and tensor.size == 1 and test(float(tensor.item()))


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _refuse_unsupported(reader: _TensorReader) -> None:
    for name, reason in UNSUPPORTED.items():
        if name in reader.tensors:
            raise RequestError(Code.UNIMPLEMENTED, f"{name}: {reason}")
    for name, (neutral, reason) in NEUTRAL_VALUES.items():
        if name in reader.tensors and float(reader.read_scalar(name)) != neutral:
            raise RequestError(Code.UNIMPLEMENTED, f"{name}: only {neutral:g} is allowed, {reason}")


def _read_embedding_bias(reader: _TensorReader) -> tuple[tuple[bytes, float], ...]:
    words = reader.read_words("embedding_bias_words")
    weights = reader.read_numbers("embedding_bias_weights")
    if len(words) != len(weights):
        raise InvalidArgument(
            f"embedding_bias_weights: one number per embedding_bias_words is needed, found "
            f"{len(weights)} for {len(words)} words"
        )
    return tuple(zip(words, weights, strict=True))


@dataclass(frozen=True, slots=True)
class _TensorReader:
    """Typed access to the tensors; checks that the batch is 1."""

    tensors: Tensors

    def _row(self, name: str) -> list[object] | None:
        array = self.tensors.get(name)
        if array is None:
            return None
        if array.ndim > 1 and array.shape[0] != 1:
            raise InvalidArgument(f"{name}: batch 1 is needed, found shape {list(array.shape)}")
        return list(array.reshape(-1).tolist())

    def read_scalar(self, name: str) -> float:
        """Return the only value of a tensor that is present."""
        row = self._row(name)
        if row is None or len(row) != 1:
            found = 0 if row is None else len(row)
            raise InvalidArgument(f"{name}: exactly one value is needed, found {found}")
        value = row[0]
        if not isinstance(value, int | float):
            raise InvalidArgument(f"{name}: a number is needed")
        return value

    def read_number(self, name: str, default: float) -> float:
        """Return a number in its range, or the default if the tensor is absent."""
        if name not in self.tensors:
            return default
        value = float(self.read_scalar(name))
        if value not in RANGES[name]:
            raise InvalidArgument(f"{name}: must be {RANGES[name]}, found {value:g}")
        return value

    def read_integer(self, name: str) -> int | None:
        """Return an integer in its range, None if the tensor is absent."""
        if name not in self.tensors:
            return None
        value = int(self.read_scalar(name))
        if value not in RANGES[name]:
            raise InvalidArgument(f"{name}: must be {RANGES[name]}, found {value}")
        return value

    def read_integers(self, name: str) -> tuple[int, ...] | None:
        """Return all integers, None if the tensor is absent."""
        row = self._row(name)
        return None if row is None else tuple(int(value) for value in row)  # type: ignore[call-overload]

    def read_numbers(self, name: str) -> tuple[float, ...]:
        """Return all numbers, each in its range."""
        values = tuple(float(value) for value in self._row(name) or ())  # type: ignore[arg-type]
        for value in values:
            if value not in RANGES[name]:
                raise InvalidArgument(f"{name}: each must be {RANGES[name]}, found {value:g}")
        return values

    def read_flag(self, name: str, *, default: bool) -> bool:
        """Return a boolean."""
        return bool(self.read_scalar(name)) if name in self.tensors else default

    def read_text(self, name: str) -> bytes | None:
        """Return the only text, not empty; None if the tensor is absent."""
        words = self._row(name)
        if words is None:
            return None
        if len(words) != 1:
            raise InvalidArgument(f"{name}: exactly one text is needed, found {len(words)}")
        if not words[0]:
            raise InvalidArgument(f"{name}: must not be empty")
        return _to_bytes(words[0])

    def read_words(self, name: str) -> tuple[bytes, ...]:
        """Return all texts but empty ones, which NVIDIA's clients send for "none"."""
        return tuple(_to_bytes(word) for word in self._row(name) or () if word)


def _to_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
