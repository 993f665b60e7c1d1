"""Probes of servers in this pod, whatever proxies the environment names."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from llmjp_runtime.server.http_probe import is_passing, read_failure

CLOSED = "http://127.0.0.1:9"


class Answers(BaseHTTPRequestHandler):
    """200 at /ready, 503 with a reason everywhere else."""

    def do_GET(self) -> None:
        ready = self.path == "/ready"
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(json.dumps({"reason": "still loading"}).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_in_the_environment_is_not_asked(
    name: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(known, raising=False)
    if name:
        monkeypatch.setenv(name, CLOSED)
    assert is_passing(f"{server}/ready")
    assert not is_passing(f"{server}/other")
    assert read_failure(f"{server}/other") == "still loading"
    assert read_failure(f"{server}/ready") is None


def test_nobody_answers() -> None:
    assert not is_passing(CLOSED)
    assert read_failure(CLOSED) is None
