"""Probes of a running tritonserver's two HTTP servers: Triton's own and the front model's."""

from __future__ import annotations

import json
import socket
import urllib.error
from http import HTTPStatus
from typing import Final

from llmjp_runtime.front.direct_http import open_direct

PROBE_S: Final = 2.0
"""How long an answer may take."""
ANY_ADDRESS = "0.0.0.0"  # noqa: S104  compared with, never bound by default
"""Listening on every address."""


def get_reachable_host(host: str) -> str:
    """Return an address that reaches a server which listens on `host`."""
    return host if host != ANY_ADDRESS else "127.0.0.1"


def is_listening(host: str, port: int) -> bool:
    """Return whether somebody accepts connections; a slow answer counts as yes."""
    try:
        with socket.create_connection((get_reachable_host(host), port), timeout=5):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:
        return True


def is_passing(url: str) -> bool:
    """Return whether a probe passes."""
    try:
        with open_direct(url, PROBE_S) as response:
            return bool(response.status == HTTPStatus.OK)
    except (urllib.error.URLError, OSError):
        return False


def read_failure(probe: str) -> str | None:
    """Return why a probe fails; None if it passes or nobody answers."""
    try:
        with open_direct(probe, PROBE_S):
            return None
    except urllib.error.HTTPError as exc:
        with exc:
            return str(json.load(exc)["reason"])
    except OSError:
        return None
