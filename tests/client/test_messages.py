"""Requests as Triton reads them, responses as callers read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from llmjp_client import InvalidRequest, Options, ProtocolError, ServerError
from llmjp_client._messages import (
    TENSORS,
    build_conversation,
    decode_response,
    encode_request,
)
from llmjp_client._tensors import pack, unpack

if TYPE_CHECKING:
    from llmjp_client import Prompt


def encoded(prompt: Any = "x", **options: Any) -> pb.ModelInferRequest:
    return encode_request(
        prompt, cast("Options", options), model="llmjp", request_id="r1", streaming=True
    )


def tensors(request: pb.ModelInferRequest) -> dict[str, tuple[str, list[int], list[Any]]]:
    return {
        tensor.name: (tensor.datatype, list(tensor.shape), unpack(tensor.datatype, raw))
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    }


def test_only_what_is_set_is_sent() -> None:
    request = encoded("自然言語処理とは", max_tokens=None)
    assert tensors(request) == {
        "text_input": ("BYTES", [1, 1], ["自然言語処理とは"]),
        "stream": ("BOOL", [1, 1], [True]),
    }
    assert (request.model_name, request.id) == ("llmjp", "r1")
    assert request.parameters["triton_enable_empty_final_response"].bool_param


@pytest.mark.parametrize(
    ("options", "name", "expected"),
    [
        ({"max_tokens": 64}, "max_tokens", ("INT32", [1, 1], [64])),
        ({"max_tokens": np.int64(64)}, "max_tokens", ("INT32", [1, 1], [64])),
        ({"min_tokens": 2}, "min_tokens", ("INT32", [1, 1], [2])),
        ({"temperature": 0}, "temperature", ("FP32", [1, 1], [0.0])),
        ({"temperature": np.float32(0.5)}, "temperature", ("FP32", [1, 1], [0.5])),
        ({"top_p": 0.5}, "top_p", ("FP32", [1, 1], [0.5])),
        ({"top_k": 1}, "top_k", ("INT32", [1, 1], [1])),
        ({"repetition_penalty": 1.25}, "repetition_penalty", ("FP32", [1, 1], [1.25])),
        ({"presence_penalty": -0.5}, "presence_penalty", ("FP32", [1, 1], [-0.5])),
        ({"frequency_penalty": 0.5}, "frequency_penalty", ("FP32", [1, 1], [0.5])),
        ({"stop": "。"}, "stop_words", ("BYTES", [1, 1], ["。"])),
        ({"stop": ["。", "\n"]}, "stop_words", ("BYTES", [1, 2], ["。", "\n"])),
        ({"bad_words": ("馬鹿",)}, "bad_words", ("BYTES", [1, 1], ["馬鹿"])),
        ({"seed": 2**64 - 1}, "seed", ("UINT64", [1, 1], [2**64 - 1])),
        ({"log_probs": True}, "return_log_probs", ("BOOL", [1, 1], [True])),
    ],
)
def test_an_option_is_one_tensor(options: Any, name: str, expected: Any) -> None:
    sent = tensors(encoded(**options))
    assert sent.pop(name) == expected
    assert sent.keys() == {"text_input", "stream"}


def test_every_option_has_its_place() -> None:
    assert Options.__annotations__.keys() == TENSORS.keys() | {"timeout", "request_id", "metadata"}


def test_an_empty_list_of_stop_strings_is_none_at_all() -> None:
    assert "stop_words" not in tensors(encoded(stop=[]))


def test_a_conversation_is_json() -> None:
    messages = [{"role": "user", "content": "「首都」は?\n"}]
    (datatype, shape, (text,)) = tensors(encoded(messages))["messages"]
    assert (datatype, shape) == ("BYTES", [1, 1])
    assert json.loads(text) == messages


def test_token_ids() -> None:
    assert tensors(encoded([1, 2, 3]))["input_ids"] == ("INT32", [1, 3], [1, 2, 3])


def test_an_empty_prompt_is_the_servers_business() -> None:
    assert tensors(encoded(""))["text_input"] == ("BYTES", [1, 1], [""])


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("x", {"max_tokens": "64"}, "max_tokens: expected a whole number that fits 32 bits, found"),
        ("x", {"max_tokens": 2**31}, "max_tokens: .* found int 2147483648"),
        ("x", {"max_tokens": True}, "max_tokens: .* found bool True"),
        ("x", {"max_tokens": [1, 2]}, "max_tokens: .* found list"),
        ("x", {"temperature": "warm"}, "temperature: expected a number"),
        ("x", {"temperature": 1e300}, "temperature: expected a number that fits 32 bits"),
        ("x", {"seed": -1}, r"seed: expected a whole number in \[0, 2\*\*64\), found int -1"),
        ("x", {"log_probs": 1}, "log_probs: expected True or False"),
        ("x", {"stop": ["ok", 7]}, "stop: expected text that UTF-8 can encode, found int 7"),
        ("\ud800", {}, "prompt: expected text that UTF-8 can encode"),
        ([], {}, "prompt: .* empty list"),
        (["a", "b"], {}, "prompt ids: expected a whole number"),
        ([{"role": "user"}, "hello"], {}, "messages: expected mappings"),
        ([{"role": "user", "content": object()}], {}, "messages: expected mappings"),
        ([{"role": "user", "content": "\ud800"}], {}, "messages: expected text"),
    ],
)
def test_what_no_tensor_can_hold(prompt: Prompt, options: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        encoded(prompt, **options)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (b"text", "found bytes: decode text first, pass token ids as a list"),
        (bytearray(b"text"), "found bytearray: decode"),
        ({"role": "user", "content": "x"}, r"found one message: pass a list of messages, \[mess"),
        (None, "found NoneType: pass one of these"),
        (7, "found int: pass one of these"),
        ((i for i in [1]), "found generator: pass a list"),
    ],
)
def test_prompts_of_another_type_say_what_to_pass(prompt: Any, says: str) -> None:
    with pytest.raises(TypeError, match=f"^prompt: expected text, token ids or messages, {says}"):
        encoded(prompt)
    with pytest.raises(TypeError, match=says):
        build_conversation(prompt)


def test_a_text_is_one_message_of_the_user() -> None:
    assert build_conversation("首都は?") == [{"role": "user", "content": "首都は?"}]


def test_a_chat_of_token_ids_is_refused() -> None:
    with pytest.raises(TypeError, match="a list of int: pass token ids to generate"):
        build_conversation([1, 2])  # type: ignore[list-item]


def test_arrays_of_token_ids_are_lists() -> None:
    assert tensors(encoded(np.array([1, 2])))["input_ids"] == ("INT32", [1, 2], [1, 2])


def test_refusals_do_not_repeat_texts() -> None:
    with pytest.raises(InvalidRequest) as refused:
        encoded("秘密\ud800")
    assert "秘密" not in str(refused.value)


def test_options_that_do_not_exist() -> None:
    with pytest.raises(TypeError, match="no such option: max_token"):
        encoded(max_token=3)


def response(*outputs: tuple[str, Any, list[Any]], final: bool = False) -> Any:
    message = pb.ModelStreamInferResponse()
    body = message.infer_response
    if final:
        body.parameters["triton_final_response"].bool_param = True
    for name, datatype, values in outputs:
        body.outputs.add(name=name, datatype=datatype, shape=[1, len(values)])
        body.raw_output_contents.append(pack(datatype, values))
    return message


def test_a_response() -> None:
    arrival = decode_response(
        response(
            ("text_output", "BYTES", ["日本🍣"]),
            ("output_ids", "INT32", [5, 6]),
            ("output_log_probs", "FP32", [-0.5, -1.0]),
            ("finish_reason", "BYTES", ["length"]),
            ("num_input_tokens", "INT32", [4]),
            ("num_output_tokens", "INT32", [2]),
            ("sequence_index", "INT32", [0]),
            final=True,
        )
    )
    chunk = arrival.chunk
    assert (chunk.text, chunk.output_ids, chunk.finish_reason) == ("日本🍣", (5, 6), "length")
    assert chunk.log_probs == (-0.5, -1.0)
    assert (arrival.input_tokens, arrival.output_tokens, arrival.final) == (4, 2, True)


def test_an_empty_response_is_no_chunk_and_not_final() -> None:
    arrival = decode_response(pb.ModelStreamInferResponse())
    assert arrival.chunk == type(arrival.chunk)()
    assert not arrival.final


def test_tensors_of_another_kind_are_refused() -> None:
    with pytest.raises(ProtocolError, match="text_output: expected BYTES, found INT32"):
        decode_response(response(("text_output", "INT32", [1])))


def test_half_a_character_is_refused() -> None:
    message = response(("text_output", "BYTES", ["x"]))
    message.infer_response.raw_output_contents[0] = b"\x02\x00\x00\x00\xe3\x81"
    with pytest.raises(ProtocolError, match="text_output: "):
        decode_response(message)


def test_missing_contents_are_refused() -> None:
    message = response(("text_output", "BYTES", ["x"]))
    del message.infer_response.raw_output_contents[:]
    with pytest.raises(ProtocolError, match="contents for 1 output tensors, found 0"):
        decode_response(message)


def test_an_error_inside_the_stream() -> None:
    with pytest.raises(ServerError, match="it broke"):
        decode_response(pb.ModelStreamInferResponse(error_message="it broke"))
