"""`llmjp drain`: what a pod runs before it ends."""

from __future__ import annotations

import http.client
import json
import time
from typing import Annotated, Any

import typer

POLL_S = 0.2
"""Between two looks at what is still running."""
CALL_S = 5.0
"""How long the server may take to answer."""


def drain(
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds that running requests may take.")
    ] = 120.0,
    health: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Of the server's health port.")
    ] = "127.0.0.1:8003",
) -> None:
    """Let a server on this machine finish what it has begun, before it is ended.

    It says that it is not ready, so that no requests are sent to it any more; takes those that come
    all the same for a while (`llmjp serve --drain-grace`); then refuses them in a way that clients
    understand. Exits with 0 also if the time is up or there is no server: whoever calls this is
    about to end it anyway.

    Example: llmjp drain --timeout 300
    """
    host, _, port = health.rpartition(":")
    if not host or not port.isdecimal():
        raise typer.BadParameter(f"--health {health}: expected HOST:PORT, as 127.0.0.1:8003")
    typer.echo(_drained(host, int(port), timeout), err=True)


def _drained(host: str, port: int, timeout_s: float) -> str:
    """What came of it, once nothing runs any more or the time is up."""
    began = time.monotonic()
    last: dict[str, Any] | None = None
    while True:
        try:
            last = _order(host, port)
        except ConnectionRefusedError:
            if last is None:
                return f"nothing to drain: nobody listens at {host}:{port}"
            return f"the server has gone; {last['running']} requests were running when last asked"
        except (OSError, ValueError, http.client.HTTPException):
            pass  # busy, perhaps: what runs there may still come to its end
        spent_s = time.monotonic() - began
        if last is not None and last["done"]:
            return f"drained in {spent_s:.1f} s: nothing is running"
        if spent_s >= timeout_s:
            running = (
                "it did not answer" if last is None else f"{last['running']} requests are left"
            )
            return f"not drained in {spent_s:.1f} s: {running}"
        time.sleep(min(POLL_S, timeout_s - spent_s))


def _order(host: str, port: int) -> dict[str, Any]:
    """Tell the server to drain, which may be done again and again; how far it is.

    Raises:
        OSError, ValueError, http.client.HTTPException: it does not answer, or not as ours do.
    """
    connection = http.client.HTTPConnection(host, port, timeout=CALL_S)
    try:
        connection.request("POST", "/drain")
        response = connection.getresponse()
        state = json.loads(response.read())
    finally:
        connection.close()
    if not isinstance(state, dict) or not {"done", "running"} <= state.keys():
        raise ValueError(f"it answers with status {response.status}")
    return state
