"""What probes answer, as functions of one reading, and over HTTP."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest

from llmjp_runtime.executor.protocol import ExecutorHealth
from llmjp_runtime.front.health import (
    HEARTBEAT_LIMIT_S,
    STALL_LIMIT_S,
    DrainState,
    HealthServer,
    ProbeResult,
    check_liveness,
    check_readiness,
    mark_draining,
)

HEALTHY = ExecutorHealth(
    heartbeat_age_s=0.1, num_active=0, num_waiting=0, num_steps=5, num_generated=1
)


@pytest.mark.parametrize(
    ("change", "ok"),
    [
        ({}, True),
        ({"num_generated": 0}, False),
        ({"heartbeat_age_s": HEARTBEAT_LIMIT_S + 0.1}, False),
        ({"error": "out of memory"}, False),
        ({"num_active": 32, "num_waiting": 1000}, True),
    ],
)
def test_readiness(change: dict[str, object], ok: bool) -> None:
    result = check_readiness(replace(HEALTHY, **change))  # type: ignore[arg-type]
    assert result.ok is ok
    assert result.reason


def test_work_without_steps_is_not_live_after_a_while() -> None:
    busy = replace(HEALTHY, num_active=1)
    result, last = check_liveness(busy, None, 100.0)
    assert result.ok
    result, last = check_liveness(busy, last, 100.0 + STALL_LIMIT_S)
    assert result.ok
    result, last = check_liveness(busy, last, 100.1 + STALL_LIMIT_S)
    assert not result.ok
    result, last = check_liveness(replace(busy, num_steps=6), last, 101.0 + STALL_LIMIT_S)
    assert result.ok


def test_silence_is_not_live_after_a_while() -> None:
    silent = replace(HEALTHY, heartbeat_age_s=STALL_LIMIT_S + 0.1)
    result, _ = check_liveness(silent, None, 0.0)
    assert not result.ok
    assert "no heartbeat" in result.reason


def test_idleness_is_live_for_ever() -> None:
    _, last = check_liveness(HEALTHY, None, 0.0)
    result, _ = check_liveness(HEALTHY, last, 1e6)
    assert result.ok


def test_a_failed_executor_is_not_live() -> None:
    assert not check_liveness(replace(HEALTHY, error="broken"), None, 0.0)[0].ok


def test_probes_over_http() -> None:
    verdicts = {
        "/readyz": ProbeResult(True, "ready", active=3, waiting=1),
        "/livez": ProbeResult(False, "stuck"),
    }
    server = HealthServer(
        "127.0.0.1",
        0,
        {path: lambda v=v: v for path, v in verdicts.items()},  # type: ignore[misc]
    )
    try:
        base = f"http://127.0.0.1:{server.port}"
        with urllib.request.urlopen(f"{base}/readyz", timeout=5) as response:
            assert json.load(response) == {
                "ok": True,
                "reason": "ready",
                "active": 3,
                "waiting": 1,
            }
        for path, status in (("/livez", 503), ("/", 404)):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{base}{path}", timeout=5)
            assert caught.value.code == status
            caught.value.close()
    finally:
        server.close()


def test_a_draining_server_is_not_ready_and_says_what_runs() -> None:
    ready = ProbeResult(True, "ready", active=2, waiting=1)
    assert mark_draining(ready, 3) == ProbeResult(False, "draining", active=2, waiting=1)
    assert mark_draining(ready, 0) == ProbeResult(False, "draining", active=0, waiting=1)


@pytest.fixture
def drained() -> Iterator[tuple[HealthServer, list[str]]]:
    calls: list[str] = []

    def order() -> DrainState:
        calls.append("drain")
        return DrainState(done=False, running=len(calls), accepts_for_s=1.5)

    probes = {"/readyz": lambda: ProbeResult(True, "ready")}
    server = HealthServer("0.0.0.0", 0, probes, {"/drain": order})
    yield server, calls
    server.close()


def post(address: str, port: int, path: str, **headers: str) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(
        f"http://{address}:{port}{path}", method="POST", headers=headers, data=b"ignored"
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_an_order_from_this_machine(drained: tuple[HealthServer, list[str]]) -> None:
    server, calls = drained
    expected = {"done": False, "running": 1, "accepts_for_s": 1.5}
    assert post("127.0.0.1", server.port, "/drain") == (200, expected)
    assert post("127.0.0.2", server.port, "/drain")[1]["running"] == 2
    assert calls == ["drain", "drain"]


def test_what_is_no_order(drained: tuple[HealthServer, list[str]]) -> None:
    server, calls = drained
    for path in ("/readyz", "/livez", "/", "/drain/"):
        assert post("127.0.0.1", server.port, path)[0] == 404
    assert post("127.0.0.1", server.port, "/drain", Origin="http://example.com")[0] == 404
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/drain", timeout=5)
    with caught.value as error:
        assert error.code == 404
    assert calls == []


def test_orders_from_elsewhere_are_not_taken(drained: tuple[HealthServer, list[str]]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but its own")
        address = probe.getsockname()[0]
    server, calls = drained
    assert post(address, server.port, "/drain")[0] == 404
    assert calls == []
