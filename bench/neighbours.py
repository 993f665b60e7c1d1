"""What one request costs all others: first tokens of small chats, alone and beside a hostile one.

Small chats run one after another on a real tritonserver; beside them another client sends the same
large request again and again. Large requests that are refused, and the largest that are served.

    python bench/neighbours.py [--chats 40]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from llmjp_builder.contracts.spec import BuildSpec, Source
from llmjp_builder.pipeline import build
from llmjp_client import Client
from llmjp_runtime.server.endpoints import Endpoints
from llmjp_runtime.server.preflight import find_free_ports
from llmjp_runtime.server.process import TritonServer
from llmjp_runtime.settings import ServingSettings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

EXAMPLE = Path(__file__).parents[1] / "examples" / "tiny-model" / "checkpoint"
CHAT = [{"role": "user", "content": "日本の首都はどこですか。"}]
LARGEST_MESSAGE = 256 * 1024 * 1024


def make_messages(count: int) -> bytes:
    roles = ("user", "assistant")
    return json.dumps([{"role": roles[i % 2], "content": ""} for i in range(count)]).encode()


def number_words(count: int) -> list[bytes]:
    return [b"x%d" % i for i in range(count)]


def build_request(**inputs: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="llmjp")
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            request.inputs.add(name=name, datatype="INT32", shape=[1, value.size])
            request.raw_input_contents.append(value.astype(np.int32).tobytes())
        else:
            words = value if isinstance(value, list) else [value]
            request.inputs.add(name=name, datatype="BYTES", shape=[1, len(words)])
            packed = b"".join(len(word).to_bytes(4, "little") + word for word in words)
            request.raw_input_contents.append(packed)
    return request


def list_requests() -> dict[str, pb.ModelInferRequest]:
    text = "日本の首都は東京です。".encode()
    one = np.ones(1)
    return {
        "200,001 messages": build_request(messages=make_messages(200_001)),
        "8 M ids": build_request(input_ids=np.ones(8_000_000)),
        "20,000 bad words": build_request(text_input=b"a", bad_words=number_words(20_000)),
        "1 MB of text": build_request(text_input=text * 32_000),
        "1,024 bad words, served": build_request(
            text_input=b"a", bad_words=number_words(1024), max_tokens=one
        ),
        "41 messages, served": build_request(messages=make_messages(41), max_tokens=one),
    }


class Neighbour:
    """Sends one request again and again, from its own process."""

    def __init__(self, endpoint: str, request: pb.ModelInferRequest) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        given = (endpoint, request.SerializeToString(), theirs)
        self._process = multiprocessing.get_context("spawn").Process(target=send_again, args=given)
        self._process.start()
        self._ours.recv()

    def close(self) -> str:
        """Return the last answer."""
        self._ours.send("end")
        answer = str(self._ours.recv())
        self._process.join()
        return answer


def send_again(endpoint: str, encoded: bytes, orders: Connection) -> None:
    """Send the request until told to end; tell the first time and the last answer."""
    request = pb.ModelInferRequest.FromString(encoded)
    options = [("grpc.max_send_message_length", LARGEST_MESSAGE)]
    with grpc.insecure_channel(endpoint, options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        first = True
        while first or not orders.poll(0.05):
            answer = list(stub.ModelStreamInfer(iter([request])))[-1].error_message or "served"
            if first:
                orders.send("started")
                first = False
    orders.send(answer)


def measure_first_tokens(client: Client, count: int) -> list[float]:
    """Seconds to the first token of each chat."""
    found = []
    for _ in range(count):
        start = time.perf_counter()
        with client.stream(CHAT, top_k=1, max_tokens=2) as stream:
            next(iter(stream))
            found.append(time.perf_counter() - start)
    return found


def show(table: Table, name: str, seconds: list[float], answer: str) -> None:
    ordered = sorted(seconds)
    shown = (statistics.median(ordered), ordered[int(len(ordered) * 0.95)], ordered[-1])
    table.add_row(name, *(f"{value * 1e3:.1f}" for value in shown), answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chats", type=int, default=40)
    chats = parser.parse_args().chats
    table = Table("beside", "median ms", "p95", "worst", "the other's answer")
    with tempfile.TemporaryDirectory() as folder:
        spec = BuildSpec(source=Source(path=str(EXAMPLE)), tensor_parallel=2)
        artefact = build(spec, store=Path(folder)).path
        http, grpc_port, metrics, health = find_free_ports(4)
        settings = ServingSettings(artefact=artefact, health_port=health, num_threads=1)
        endpoints = Endpoints(http_port=http, grpc_port=grpc_port, metrics_port=metrics)
        with TritonServer(settings, endpoints) as server:
            server.wait_ready(180)
            with Client(server.grpc_endpoint) as client:
                measure_first_tokens(client, 10)
                show(table, "nobody", measure_first_tokens(client, chats), "")
                for name, request in list_requests().items():
                    neighbour = Neighbour(server.grpc_endpoint, request)
                    seconds = measure_first_tokens(client, chats)
                    show(table, name, seconds, neighbour.close())
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
