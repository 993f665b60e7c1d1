"""Readiness and liveness of the front process, served on a port of its own.

Triton stays ready when a Python model's process dies (../../../docs/serving.md), so Kubernetes asks
this process instead. A probe reads counters and generates nothing: load cannot fail it.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmjp_runtime.executor.protocol import ExecutorHealth

HEARTBEAT_LIMIT_S = 5.0
"""An executor whose loop is silent for longer is not ready."""
STALL_LIMIT_S = 60.0
"""Work without a step, or no heartbeat, for longer is not live: the container must be restarted."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One probe's answer; `reason` is for the person who reads the probe."""

    ok: bool
    reason: str
    active: int = 0
    """Requests in the batch."""
    waiting: int = 0
    """Requests not yet started."""


def check_readiness(health: ExecutorHealth) -> ProbeResult:
    """Judge whether requests may come here (pure)."""
    reason = _find_unready_reason(health)
    return ProbeResult(reason is None, reason or "ready", health.num_active, health.num_waiting)


def _find_unready_reason(health: ExecutorHealth) -> str | None:
    if health.error is not None:
        return f"the executor failed: {health.error}"
    if health.heartbeat_age_s > HEARTBEAT_LIMIT_S:
        return f"no heartbeat for {health.heartbeat_age_s:.1f} s"
    if health.num_generated == 0:
        return "no token generated since start"
    return None


@dataclass(frozen=True, slots=True)
class StepProgress:
    """When the number of steps was last seen to change."""

    num_steps: int
    since_s: float


def check_liveness(
    health: ExecutorHealth, last: StepProgress | None, now_s: float
) -> tuple[ProbeResult, StepProgress]:
    """Judge whether the executor advances; return also what the next probe needs (pure)."""
    if last is None or last.num_steps != health.num_steps or health.num_active == 0:
        last = StepProgress(health.num_steps, now_s)
    stalled_s = now_s - last.since_s
    reason = None
    if health.error is not None:
        reason = f"the executor failed: {health.error}"
    elif health.heartbeat_age_s > STALL_LIMIT_S:
        reason = f"no heartbeat for {health.heartbeat_age_s:.0f} s"
    elif stalled_s > STALL_LIMIT_S:
        reason = f"{health.num_active} requests, no step for {stalled_s:.0f} s"
    result = ProbeResult(reason is None, reason or "live", health.num_active, health.num_waiting)
    return result, last


@dataclass(frozen=True, slots=True)
class DrainState:
    """How far a draining server is."""

    done: bool
    """The server can end with nothing lost."""
    running: int
    """Requests whose last response has not been sent."""
    accepts_for_s: float
    """New requests are accepted for so long, and refused afterwards."""


def mark_draining(result: ProbeResult, running: int) -> ProbeResult:
    """Return the `/readyz` result of a server that is about to end (pure).

    Args:
        result: what it would say otherwise.
        running: requests whose last response has not been sent.
    """
    return ProbeResult(False, "draining", max(running - result.waiting, 0), result.waiting)


class HealthServer:
    """HTTP on `host:port`: 200 or 503 and a JSON object for `/readyz` and `/livez`.

    Commands (POST) are accepted from this machine only: who may probe a pod's health must not be
    able to end its service. A page in a browser on this machine is refused as well.
    """

    def __init__(
        self,
        host: str,
        port: int,
        probes: Mapping[str, Callable[[], ProbeResult]],
        commands: Mapping[str, Callable[[], DrainState]] | None = None,
    ) -> None:
        """Bind and serve in a daemon thread.

        Raises:
            OSError: the port is taken.
        """
        handler = _build_handler(probes, commands or {})
        self._server = ThreadingHTTPServer((host, port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="health", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The bound port (useful where 0 was asked for)."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _build_handler(
    probes: Mapping[str, Callable[[], ProbeResult]],
    commands: Mapping[str, Callable[[], DrainState]],
) -> type[BaseHTTPRequestHandler]:
    """Build the handler of probes (GET) and commands (POST), by path."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            probe = probes.get(self.path)
            result = probe() if probe else None
            self._answer(result, ok=result is not None and result.ok)

        def do_POST(self) -> None:
            self.close_connection = True  # a body, should there be one, is not read
            ours = ip_address(self.client_address[0]).is_loopback and not self.headers["Origin"]
            command = commands.get(self.path) if ours else None
            self._answer(command() if command else None, ok=True)

        def _answer(self, answer: ProbeResult | DrainState | None, *, ok: bool) -> None:
            body = json.dumps(asdict(answer or ProbeResult(False, "not found"))).encode()
            self.send_response(404 if answer is None else 200 if ok else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing: probes are not worth a line each."""

    return Handler
