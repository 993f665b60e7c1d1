"""`llmjp drain`: the preStop hook of a pod that serves."""

from __future__ import annotations

import http.client
import json
import time
from typing import Annotated, Any

import typer

from llmjp_builder.contracts.defaults import HEALTH_PORT

POLL_S = 0.2
"""Between two requests for the number of running requests."""
CALL_S = 5.0
"""How long the server may take to answer."""


def drain_server(
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for running requests.")
    ] = 120.0,
    health: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Address of the server's health port.")
    ] = f"127.0.0.1:{HEALTH_PORT}",
) -> None:
    """Let a server on this machine finish its requests before it is stopped.

    The server reports that it is not ready, so that no new requests are sent to it; still accepts
    late ones for a while (`llmjp serve --drain-grace`); then refuses them so that clients try
    another server. Exits with 0 even if the time is up or no server runs: the caller is about to
    stop it anyway.

    Example: llmjp drain --timeout 300
    """
    host, _, port = health.rpartition(":")
    if not host or not port.isdecimal():
        raise typer.BadParameter(
            f"--health {health}: expected HOST:PORT, such as 127.0.0.1:{HEALTH_PORT}"
        )
    typer.echo(_drain(host, int(port), timeout), err=True)


def _drain(host: str, port: int, timeout_s: float) -> str:
    """Return the outcome, once nothing is running or the time is up."""
    start = time.monotonic()
    last: dict[str, Any] | None = None
    while True:
        try:
            last = _request_drain(host, port)
        except ConnectionRefusedError:
            if last is None:
                return f"nothing to drain: no server listens at {host}:{port}"
            return f"the server is gone; {last['running']} requests were running at the last check"
        except (OSError, ValueError, http.client.HTTPException):
            pass  # perhaps busy: its requests may still finish
        spent_s = time.monotonic() - start
        if last is not None and last["done"]:
            return f"drained in {spent_s:.1f} s: nothing is running"
        if spent_s >= timeout_s:
            running = (
                "it did not answer"
                if last is None
                else f"{last['running']} requests are still running"
            )
            return f"not drained in {spent_s:.1f} s: {running}"
        time.sleep(min(POLL_S, timeout_s - spent_s))


def _request_drain(host: str, port: int) -> dict[str, Any]:
    """Tell the server to drain, which is idempotent; return how far it is.

    Raises:
        OSError, ValueError, http.client.HTTPException: it does not answer, or is another server.
    """
    connection = http.client.HTTPConnection(host, port, timeout=CALL_S)
    try:
        connection.request("POST", "/drain")
        response = connection.getresponse()
        state = json.loads(response.read())
    finally:
        connection.close()
    if not isinstance(state, dict) or not {"done", "running"} <= state.keys():
        raise ValueError(f"unexpected answer with status {response.status}")
    return state
