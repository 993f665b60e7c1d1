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
    grace: Annotated[
        float,
        typer.Option(min=0, help="Seconds to wait at least, until nobody sends new requests."),
    ] = 6.0,
    health: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Of the server's health port.")
    ] = "127.0.0.1:8003",
) -> None:
    """Let a server on this machine finish what it has begun, and take nothing new.

    It says that it is not ready, so that no requests are sent to it any more, and refuses those
    that come all the same in a way that clients understand. Ends with 0 also if the time is up or
    there is no server: whoever calls this is about to end it anyway.

    Example: llmjp drain --timeout 300
    """
    began = time.monotonic()
    state = _ask(health, "POST", "/drain")
    if state is None:
        typer.echo(f"no server answers at {health}: nothing to drain", err=True)
        return
    while (spent := time.monotonic() - began) < max(timeout, grace):
        running = 0 if state is None else state.get("active", 0) + state.get("waiting", 0)
        if state is None or (running == 0 and spent >= grace):
            break
        if running and spent >= timeout:
            break
        time.sleep(POLL_S)
        state = _ask(health, "GET", "/readyz")
    left = 0 if state is None else state.get("active", 0)
    typer.echo(f"drained in {time.monotonic() - began:.1f} s, {left} requests left", err=True)


def _ask(address: str, method: str, path: str) -> dict[str, Any] | None:
    """The server's answer; None if there is none."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=CALL_S)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        found = json.loads(response.read())
        return found if isinstance(found, dict) and response.status != 404 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
