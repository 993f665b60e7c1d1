"""What a real server answers to requests, good and bad, over gRPC."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from llmjp_client import Client, InvalidRequest, LlmJpError
from llmjp_runtime.server.process import TritonServer

QUESTION = [{"role": "user", "content": "日本の首都はどこですか。"}]
GREEDY: dict[str, Any] = {"top_k": 1, "repetition_penalty": 1.0, "max_tokens": 32}
CONTEXT = 512


def raw(
    server: TritonServer,
    model: str = "llmjp",
    request_id: str = "",
    parameters: dict[str, str] | None = None,
    **inputs: Any,
) -> list[pb.ModelStreamInferResponse]:
    """Every response to a request made by hand, as another vendor's client would make it."""
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    for name, value in (parameters or {}).items():
        request.parameters[name].string_param = value
    types = {np.dtype(np.int32): "INT32", np.dtype(np.float32): "FP32", np.dtype(bool): "BOOL"}
    for name, value in inputs.items():
        if isinstance(value, bytes):
            request.inputs.add(name=name, datatype="BYTES", shape=[1, 1])
            request.raw_input_contents.append(len(value).to_bytes(4, "little") + value)
        else:
            array = np.array([[value]])
            kind = np.float32 if array.dtype == np.float64 else array.dtype
            array = array.astype(np.int32 if kind == np.int64 else kind)
            request.inputs.add(name=name, datatype=types[array.dtype], shape=[1, 1])
            request.raw_input_contents.append(array.tobytes())
    with grpc.insecure_channel(server.grpc_endpoint) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return list(stub.ModelStreamInfer(iter([request]), timeout=60))


def post(server: TritonServer, model: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and answer of one request over HTTP."""
    url = f"http://127.0.0.1:{server.endpoints.http_port}/v2/models/{model}/generate"
    request = urllib.request.Request(url, json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def outputs(response: pb.ModelStreamInferResponse) -> dict[str, bytes]:
    inner = response.infer_response
    return {o.name: r for o, r in zip(inner.outputs, inner.raw_output_contents, strict=True)}


def text(responses: list[pb.ModelStreamInferResponse]) -> str:
    return "".join(outputs(r)["text_output"][4:].decode() for r in responses if outputs(r))


def test_a_stream_equals_the_whole_reply(client: Client) -> None:
    whole = client.chat(QUESTION, **GREEDY)
    with client.stream(QUESTION, **GREEDY) as stream:
        chunks = [chunk.text for chunk in stream]
        assert stream.reply().usage == whole.usage
    assert "".join(chunks) == whole.text
    assert whole.finish_reason in {"stop", "length"}


def test_same_seed_same_reply(client: Client) -> None:
    options = {"temperature": 5.0, "top_p": 1.0, "max_tokens": 24}
    first = client.chat(QUESTION, seed=7, **options)  # type: ignore[arg-type]
    assert client.chat(QUESTION, seed=7, **options).output_ids == first.output_ids  # type: ignore[arg-type]
    others = {client.chat(QUESTION, seed=s, **options).output_ids for s in range(8)}  # type: ignore[arg-type]
    assert len(others) > 1


def test_a_prompt_by_its_ids_is_the_same_prompt(client: Client) -> None:
    prompt = "むかしむかし"
    by_text = client.generate(prompt, **GREEDY)
    assert by_text.usage.input_tokens > 1
    log_probs = client.generate(prompt, log_probs=True, **GREEDY).log_probs
    assert len(log_probs) == len(by_text.output_ids)
    assert all(value <= 0 for value in log_probs)


@pytest.mark.parametrize("model", ["llmjp", "ensemble"])
def test_the_likeliest_tokens_of_each_place(server: TritonServer, model: str) -> None:
    """Greedily the first of each place is the token that was chosen."""
    (response,) = raw(
        server,
        model,
        text_input="むかしむかし".encode(),
        top_log_probs=3,
        top_k=1,
        repetition_penalty=1.0,
        max_tokens=4,
    )
    found = outputs(response)
    ids = np.frombuffer(found["output_ids"], np.int32)
    top = np.frombuffer(found["top_ids"], np.int32).reshape(len(ids), 3)
    values = np.frombuffer(found["top_log_probs"], np.float32).reshape(len(ids), 3)
    chosen = np.frombuffer(found["output_log_probs"], np.float32)
    assert top[:, 0].tolist() == ids.tolist()
    np.testing.assert_allclose(values[:, 0], chosen, rtol=1e-4, atol=1e-5)
    assert (np.diff(values) <= 0).all()
    assert (values <= 0).all()
    assert {"output_tokens", "top_tokens"} <= {*found}


def test_stop_strings_end_the_reply(client: Client) -> None:
    whole = client.chat(QUESTION, **GREEDY).text
    middle = whole[len(whole) // 2 :][:2]
    cut = client.chat(QUESTION, stop=[middle], **GREEDY)
    assert cut.text == whole[: whole.index(middle)]
    assert cut.finish_reason == "stop"


@pytest.mark.parametrize("model", ["llmjp", "ensemble"])
def test_a_special_token_ends_the_reply(server: TritonServer, model: str) -> None:
    """It has no text, so only its id can: here the one that a bias makes the model choose."""
    responses = raw(
        server,
        model,
        text_input="日本".encode(),
        stop_words=b"<EOD|LLM-jp>",
        embedding_bias_words=b"<EOD|LLM-jp>",
        embedding_bias_weights=1000.0,
        exclude_input_in_output=True,
        max_tokens=8,
    )
    assert text(responses) == ""
    assert outputs(responses[-1])["finish_reason"][4:] == b"stop"


@pytest.mark.parametrize("model", ["llmjp", "ensemble"])
@pytest.mark.parametrize(("name", "near"), [("temprature", "temperature"), ("random_seed", "seed")])
def test_a_parameter_that_nothing_acts_on_is_refused(
    server: TritonServer, model: str, name: str, near: str
) -> None:
    """Over gRPC and HTTP alike; what is Triton's own, and trace headers, pass."""
    advice = f"[invalid_argument] '{name}': no such input or parameter; did you mean {near}?"
    (response,) = raw(server, model, parameters={name: "7"}, text_input="日本".encode())
    assert response.error_message.endswith(advice)
    status, body = post(server, model, {"text_input": "日本", name: 7})
    assert (status, body["error"].endswith(advice)) == (400, True)


@pytest.mark.parametrize("model", ["llmjp", "ensemble"])
def test_what_others_act_on_passes(server: TritonServer, model: str) -> None:
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    short = {"text_input": "日本", "max_tokens": 2}
    responses = raw(server, model, parameters=trace, text_input="日本".encode(), max_tokens=2)
    assert outputs(responses[-1])["finish_reason"]
    given = {**short, **trace, "id": "a1", "timeout": 60_000_000, "priority": 1}
    assert post(server, model, given)[0] == 200
    nvidias = {**short, "top_p": 0.0, "length_penalty": 0.9, "beam_width": 1}
    assert (post(server, model, nvidias)[0] == 200) == (model == "ensemble")


@pytest.mark.parametrize("model", ["llmjp", "ensemble"])
def test_a_dropped_system_message_is_said(server: TritonServer, model: str) -> None:
    turns = [{"role": "system", "content": "短く。"}, *QUESTION]
    with Client(server.grpc_endpoint, model=model) as client:
        (warning,) = client.chat(turns, **GREEDY).warnings
        assert "drops what a system message says" in warning
        assert client.chat(QUESTION, **GREEDY).warnings == ()
    status, body = post(server, model, {"messages": json.dumps(turns), "max_tokens": 2})
    assert (status, body["warnings"]) == (200, warning)


def test_bad_words_are_never_completed(client: Client) -> None:
    with client.stream(QUESTION, **GREEDY) as stream:
        first = next(iter(stream)).text
    assert not client.chat(QUESTION, bad_words=[first], **GREEDY).text.startswith(first)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_p": 2.0}, "top_p"),
    ],
)
def test_values_out_of_range_are_refused(
    server: TritonServer, options: dict[str, Any], says: str
) -> None:
    (response,) = raw(server, text_input="日本".encode(), **options)
    assert response.error_message.startswith(f"[invalid_argument] {says}: must be ")


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "exactly one of"),
        ({"text_input": b"a", "messages": b"[]"}, "exactly one of"),
        ({"text_input": b""}, "text_input: must not be empty"),
        ({"messages": b"{"}, "messages: not JSON"),
        ({"messages": b'[{"role": "tool", "content": "x"}]'}, "messages[0].role"),
        ({"text_input": b"\xff"}, "text_input: not UTF-8"),
        ({"text_input": b"a", "beam_width": 4}, "beam_width"),
        ({"text_input": ("日本" * 180_000).encode()}, f"the context is {CONTEXT} tokens"),
        (
            {"messages": json.dumps([{"role": "user", "content": "日" * 350_000}]).encode()},
            f"the context is {CONTEXT} tokens",
        ),
    ],
)
def test_bad_requests_are_refused_in_words(
    server: TritonServer, inputs: dict[str, Any], says: str
) -> None:
    # Triton itself refuses a request without any input.
    inputs = inputs or {"max_tokens": 3}
    (response,) = raw(server, **inputs)
    assert says in response.error_message
    assert len(response.error_message) < 400


def test_the_client_raises_what_was_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest, match=r"the context is 512 tokens"):
        client.generate([9] * 600)
    with pytest.raises(InvalidRequest, match="role"):
        client.chat([{"role": "robot", "content": "x"}])
    with pytest.raises(LlmJpError, match="nonesuch"):
        Client(client.endpoint, model="nonesuch").chat(QUESTION)


def test_max_tokens_beyond_what_is_left_is_clamped(client: Client) -> None:
    ids = [9] * (CONTEXT - 3)
    reply = client.generate(ids, max_tokens=10_000, min_tokens=3)
    assert reply.finish_reason == "length"
    assert reply.usage.output_tokens == 3


def test_control_tokens_in_a_message_stay_text(client: Client) -> None:
    plain = client.chat([{"role": "user", "content": "日本"}], max_tokens=1).usage
    marked = client.chat([{"role": "user", "content": "日本</s>"}], max_tokens=1).usage
    # As a control token it would be one id; as text it is several.
    assert marked.input_tokens >= plain.input_tokens + 2


def test_an_undeclared_tensor_is_refused_by_triton(server: TritonServer) -> None:
    (response,) = raw(server, nonesuch=b"x")
    assert "nonesuch" in response.error_message


def test_ensemble_has_nvidias_behaviour(server: TritonServer, client: Client) -> None:
    prompt = "日本の首都は"
    (unary,) = raw(server, "ensemble", text_input=prompt.encode(), max_tokens=8)
    greedy = client.generate(prompt, top_k=1, repetition_penalty=1.0, temperature=1.0, max_tokens=8)
    assert text([unary]) == prompt + greedy.text
    streamed = raw(server, "ensemble", text_input=prompt.encode(), max_tokens=8, stream=True)
    assert text(streamed) == greedy.text
    (without,) = raw(
        server, "ensemble", text_input=prompt.encode(), max_tokens=8, exclude_input_in_output=True
    )
    assert text([without]) == greedy.text


def test_ensemble_passes_refusals_on(server: TritonServer) -> None:
    (response,) = raw(server, "ensemble", text_input=b"a", max_tokens=0)
    assert response.error_message.startswith("[invalid_argument] max_tokens: must be ")
    (response,) = raw(server, "ensemble", text_input=b"a", max_tokens=1, beam_width=2)
    assert response.error_message.startswith("[unimplemented] beam_width: ")
