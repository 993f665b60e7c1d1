"""What probes answer, as functions of one reading, and over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from llmjp_runtime.executor.protocol import ExecutorHealth
from llmjp_runtime.front.health import (
    HEARTBEAT_LIMIT_S,
    STALL_LIMIT_S,
    HealthServer,
    Verdict,
    liveness,
    readiness,
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
    verdict = readiness(replace(HEALTHY, **change))  # type: ignore[arg-type]
    assert verdict.ok is ok
    assert verdict.reason


def test_work_without_steps_is_not_live_after_a_while() -> None:
    busy = replace(HEALTHY, num_active=1)
    verdict, last = liveness(busy, None, 100.0)
    assert verdict.ok
    verdict, last = liveness(busy, last, 100.0 + STALL_LIMIT_S)
    assert verdict.ok
    verdict, last = liveness(busy, last, 100.1 + STALL_LIMIT_S)
    assert not verdict.ok
    verdict, last = liveness(replace(busy, num_steps=6), last, 101.0 + STALL_LIMIT_S)
    assert verdict.ok


def test_idleness_is_live_for_ever() -> None:
    _, last = liveness(HEALTHY, None, 0.0)
    verdict, _ = liveness(HEALTHY, last, 1e6)
    assert verdict.ok


def test_a_failed_executor_is_not_live() -> None:
    assert not liveness(replace(HEALTHY, error="broken"), None, 0.0)[0].ok


def test_probes_over_http() -> None:
    verdicts = {
        "/readyz": Verdict(True, "ready", active=3, waiting=1),
        "/livez": Verdict(False, "stuck"),
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
