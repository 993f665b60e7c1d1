"""What the real server tells of requests: one scrape, name by name, and the log."""

from __future__ import annotations

import json
import re
import time
import urllib.request
import uuid
from pathlib import Path

import pytest

from llmjp_client import Client, InvalidRequest
from llmjp_runtime.front.metrics import KV_CACHE, RECORDED, RUNNING, VLLM_NAMES, WAITING
from llmjp_runtime.server.process import TritonServer
from tests.triton.test_requests import post

GAUGES = (RUNNING, WAITING, KV_CACHE, *(copy for each in VLLM_NAMES.values() for copy in each))
QUESTION = [{"role": "user", "content": "日本の首都はどこですか。"}]


def scrape(server: TritonServer) -> tuple[dict[str, str], dict[str, float]]:
    """Types by name, and values by series, of all that is not Triton's own."""
    url = f"http://127.0.0.1:{server.endpoints.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as response:
        lines = response.read().decode().splitlines()
    ours = [line for line in lines if re.search(r"\b(llmjp_\w|vllm:)", line.split("{")[0])]
    types = dict(line.split()[2:4] for line in ours if line.startswith("# TYPE "))
    series = (line.rsplit(" ", 1) for line in ours if not line.startswith("#"))
    return types, {name: float(value) for name, value in series}


MARKER = 'llmjp_requests_refused_total{code="unimplemented"}'


def settle(server: TritonServer) -> dict[str, float]:
    """Values that have every request so far, published once a second and not all at once.

    When a second refusal is seen, all that was published with the first is there.
    """
    for _ in range(2):
        before = scrape(server)[1][MARKER]
        assert post(server, "llmjp", {"text_input": "a", "beam_width": 4})[0] >= 400
        end = time.monotonic() + 30
        while scrape(server)[1][MARKER] <= before:
            assert time.monotonic() < end, "the request was never published"
            time.sleep(0.05)
    return scrape(server)[1]


def test_a_scrape_has_every_metric_and_the_requests(server: TritonServer, client: Client) -> None:
    before = settle(server)
    reply = client.chat(QUESTION, top_k=1, max_tokens=8)
    with pytest.raises(InvalidRequest):
        client.generate([9] * 600)
    after = settle(server)
    finished = f'llmjp_requests_finished_total{{finish_reason="{reply.finish_reason}"}}'
    refused = 'llmjp_requests_refused_total{code="invalid_argument"}'
    types, _ = scrape(server)
    assert types == {metric.name: metric.kind.value for metric in (*RECORDED, *GAUGES)}

    def grown(name: str) -> float:
        return after[name] - before[name]

    assert (grown(finished), grown(refused)) == (1, 1)
    assert grown("llmjp_prompt_tokens_total") == reply.usage.input_tokens
    assert grown("llmjp_generated_tokens_total") == reply.usage.output_tokens
    for name in ("time_to_first_token", "request_duration", "queue_wait"):
        assert grown(f"llmjp_{name}_seconds_count") == 1
    assert grown("llmjp_inter_token_latency_seconds_count") == reply.usage.output_tokens - 1
    for metric in RECORDED:
        for bucket in metric.buckets:
            assert f'{metric.name}_bucket{{le="{bucket:g}"}}' in after
    assert after["llmjp_requests_running"] == 0
    assert after['vllm:num_requests_waiting{model_name="llmjp"}'] == 0


@pytest.mark.parametrize("model", ["llmjp", "ensemble"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_request_is_logged_with_its_trace(
    server: TritonServer, server_log: Path, model: str, protocol: str
) -> None:
    """From gRPC's metadata; over HTTP from the body, since Triton forwards no header there."""
    trace = uuid.uuid4().hex
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    if protocol == "grpc":
        with Client(server.grpc_endpoint, model=model, metadata=headers) as client:
            client.generate("日本", max_tokens=2)
    else:
        url = f"http://127.0.0.1:{server.endpoints.http_port}/v2/models/{model}/generate"
        body = json.dumps({"text_input": "日本", "max_tokens": 2, **headers}).encode()
        urllib.request.urlopen(urllib.request.Request(url, body), timeout=30).close()
    end = time.monotonic() + 30
    while not (lines := [line for line in server_log.read_text().splitlines() if trace in line]):
        assert time.monotonic() < end, "the request was never logged"
        time.sleep(0.05)
    (entry,) = map(json.loads, lines)
    assert (entry["trace_id"], entry["generated_tokens"]) == (trace, 2)
    assert entry["finish_reason"] == "length"
