"""Our values to and from the protobuf messages of KServe v2 gRPC. Sans I/O."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Final, NamedTuple

from tritonclient.grpc import service_pb2 as pb

from ._errors import InvalidRequest, ProtocolError, from_in_band
from ._tensors import Datatype, Value, pack, unpack
from ._types import Chunk, Options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ._types import Message, Prompt


class OptionTensor(NamedTuple):
    """The tensor that carries an option."""

    name: str
    datatype: Datatype


TENSORS: Final[dict[str, OptionTensor]] = {
    "max_tokens": OptionTensor("max_tokens", "INT32"),
    "min_tokens": OptionTensor("min_tokens", "INT32"),
    "temperature": OptionTensor("temperature", "FP32"),
    "top_p": OptionTensor("top_p", "FP32"),
    "top_k": OptionTensor("top_k", "INT32"),
    "repetition_penalty": OptionTensor("repetition_penalty", "FP32"),
    "presence_penalty": OptionTensor("presence_penalty", "FP32"),
    "frequency_penalty": OptionTensor("frequency_penalty", "FP32"),
    "stop": OptionTensor("stop_words", "BYTES"),
    "bad_words": OptionTensor("bad_words", "BYTES"),
    "seed": OptionTensor("seed", "UINT64"),
    "log_probs": OptionTensor("return_log_probs", "BOOL"),
}
"""Options that travel as tensors; the others (`timeout`, `request_id`) belong to the call."""

READY: Final = OptionTensor("ready", "BOOL")
"""The tensor of the question whether the model is ready."""

_EXPECTED: Final = {
    "BOOL": "True or False",
    "INT32": "a whole number that fits 32 bits",
    "UINT64": "a whole number in [0, 2**64)",
    "FP32": "a number that fits 32 bits",
    "BYTES": "text that UTF-8 can encode",
}


def encode_request(
    prompt: Prompt, options: Options, *, model: str, request_id: str, streaming: bool
) -> pb.ModelInferRequest:
    """Return the request for one reply.

    Values are checked only for what a tensor can hold; the server checks the rest.

    Raises:
        InvalidRequest: an option or the prompt does not fit its tensor.
        TypeError: an option that does not exist, or a prompt of another type.
    """
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"no such option: {', '.join(sorted(unknown))}")
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    # Triton then ends the reply with an empty response if the model did not mark its last one.
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    _add_prompt(request, prompt)
    _add(request, "stream", OptionTensor("stream", "BOOL"), [streaming])
    for option, tensor in TENSORS.items():
        if elements := _list_elements(tensor, options.get(option)):
            _add(request, option, tensor, elements)
    return request


def encode_ready_request(*, model: str, request_id: str) -> pb.ModelInferRequest:
    """Return the question whether the model is ready; the answer is an error where it is not."""
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    _add(request, "ready", READY, [True])
    return request


def build_conversation(messages: str | Sequence[Message]) -> Sequence[Message]:
    """Return the conversation to send: a text is one message of the user.

    Raises:
        TypeError: neither a text nor messages.
    """
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    _check_prompt(messages)
    if len(messages) > 0 and not isinstance(messages[0], Mapping):
        raise TypeError(
            "messages: expected a text or a list of {role, content}, found a list of "
            f"{type(messages[0]).__name__}: pass token ids to generate or stream"
        )
    return messages


def _add_prompt(request: pb.ModelInferRequest, prompt: Prompt) -> None:
    if isinstance(prompt, str):
        _add(request, "prompt", OptionTensor("text_input", "BYTES"), [prompt])
        return
    _check_prompt(prompt)
    if len(prompt) == 0:
        raise InvalidRequest("prompt: expected text, token ids or messages, found an empty list")
    if isinstance(prompt[0], Mapping):
        _add(request, "messages", OptionTensor("messages", "BYTES"), [_dump_messages(prompt)])
    else:
        _add(request, "prompt ids", OptionTensor("input_ids", "INT32"), prompt)


def _check_prompt(prompt: object) -> None:
    """Refuse what would be taken for token ids, or for nothing at all.

    Raises:
        TypeError: it says what to pass instead.
    """
    match prompt:
        case bytes() | bytearray() | memoryview():
            advice = "decode text first, pass token ids as a list"
        case Mapping():
            advice = "pass a list of messages, [message]"
        case _ if hasattr(prompt, "__len__") and hasattr(prompt, "__getitem__"):
            return
        case _:
            advice = "pass a list" if hasattr(prompt, "__iter__") else "pass one of these"
    kind = "one message" if isinstance(prompt, Mapping) else type(prompt).__name__
    raise TypeError(f"prompt: expected text, token ids or messages, found {kind}: {advice}")


def _dump_messages(messages: Sequence[Any]) -> str:
    try:
        return json.dumps([dict(message) for message in messages], ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(
            f"messages: expected mappings of role and content to texts: {error}"
        ) from error


def _list_elements(tensor: OptionTensor, value: Any) -> Sequence[Any]:
    """Return an option as the elements of its tensor; none where it is not set."""
    if value is None:
        return []
    is_list = tensor.datatype == "BYTES" and isinstance(value, list | tuple)
    return value if is_list else [value]


def _add(
    request: pb.ModelInferRequest, option: str, tensor: OptionTensor, elements: Sequence[Any]
) -> None:
    """Append one tensor of shape [1, n]."""
    raw = b"".join(_pack_element(option, tensor.datatype, element) for element in elements)
    request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=[1, len(elements)])
    request.raw_input_contents.append(raw)


def _pack_element(option: str, datatype: Datatype, element: Any) -> bytes:
    try:
        return pack(datatype, [_to_plain(datatype, element)])
    except (TypeError, ValueError) as error:
        kind = type(element).__name__
        # Text may be private: name its type only.
        found = kind if isinstance(element, str) else f"{kind} {element!r:.40}"
        raise InvalidRequest(f"{option}: expected {_EXPECTED[datatype]}, found {found}") from error


def _to_plain(datatype: Datatype, element: Any) -> Value:
    """Return the element as a plain Python object; numpy's scalars are accepted."""
    match datatype:
        case "BYTES" if isinstance(element, str):
            return element
        case "BOOL" if isinstance(element, bool):
            return element
        case "FP32" | "INT32" | "UINT64" if isinstance(element, bool):
            raise TypeError("a truth value is no number")
        case "FP32" if isinstance(element, Real):
            return float(element)
        case "INT32" | "UINT64":
            return operator.index(element)
        case _:
            raise TypeError(type(element).__name__)


@dataclass(frozen=True, slots=True)
class DecodedResponse:
    """One response of a stream as values."""

    chunk: Chunk
    input_tokens: int | None
    output_tokens: int | None
    final: bool
    """Whether it is the last response."""


def decode_response(response: pb.ModelStreamInferResponse) -> DecodedResponse:
    """Return one response of a stream as values.

    Raises:
        LlmJpError: the response carries an error.
        ProtocolError: a tensor is not as llmjp models send it.
    """
    if response.error_message:
        raise from_in_band(response.error_message)
    body = response.infer_response
    outputs = _unpack_outputs(body)
    return DecodedResponse(
        chunk=Chunk(
            text="".join(str(text) for text in outputs.get("text_output", ())),
            output_ids=tuple(int(i) for i in outputs.get("output_ids", ())),
            log_probs=tuple(float(p) for p in outputs.get("output_log_probs", ())),
            finish_reason="".join(str(r) for r in outputs.get("finish_reason", ())) or None,
            warnings=tuple(str(each) for each in outputs.get("warnings", ())),
        ),
        input_tokens=_read_count(outputs, "num_input_tokens"),
        output_tokens=_read_count(outputs, "num_output_tokens"),
        # Indexing a missing key would add it to the message.
        final="triton_final_response" in body.parameters
        and body.parameters["triton_final_response"].bool_param,
    )


_OUTPUTS: Final[dict[str, Datatype]] = {
    "text_output": "BYTES",
    "finish_reason": "BYTES",
    "warnings": "BYTES",
    "output_ids": "INT32",
    "num_input_tokens": "INT32",
    "num_output_tokens": "INT32",
    "output_log_probs": "FP32",
}


def _unpack_outputs(body: pb.ModelInferResponse) -> dict[str, list[Value]]:
    """Return the tensors that we know, by name; others are the server's extras."""
    if len(body.outputs) != len(body.raw_output_contents):
        raise ProtocolError(
            f"expected contents for {len(body.outputs)} output tensors, "
            f"found {len(body.raw_output_contents)}"
        )
    outputs = {}
    for tensor, raw in zip(body.outputs, body.raw_output_contents, strict=True):
        if not (expected := _OUTPUTS.get(tensor.name)):
            continue
        if tensor.datatype != expected:
            raise ProtocolError(f"{tensor.name}: expected {expected}, found {tensor.datatype}")
        try:
            outputs[tensor.name] = unpack(expected, raw)
        except ValueError as error:
            raise ProtocolError(f"{tensor.name}: {error}") from error
    return outputs


def _read_count(outputs: Mapping[str, Sequence[Value]], name: str) -> int | None:
    values = outputs.get(name)
    return int(values[0]) if values else None
