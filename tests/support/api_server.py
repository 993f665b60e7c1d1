"""The API server over HTTP, through `kubectl proxy`: milliseconds a call, answers as objects."""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

from hack.local_cluster.kubectl import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hack.local_cluster import Kubectl

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that the API server says is wrong with an object."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server answered."""

    status: int
    body: Object

    @property
    def causes(self) -> list[Cause]:
        """Why it refused, without the value it found; empty if it did not."""
        causes = self.body.get("details", {}).get("causes", [])
        return [Cause(c.get("field", ""), _sentence(c["message"])) for c in causes]


def _sentence(message: str) -> str:
    """`Invalid value: "object": size must be ...` without what stands before the sentence."""
    return re.sub(r'^(Invalid|Required|Unsupported) value: ?("[^"]*": )?|^Forbidden: ', "", message)


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A port of this machine behind which the API server answers an administrator."""

    port: int

    def __call__(self, method: str, path: str, body: Object | None = None) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()))
        finally:
            connection.close()


@contextmanager
def api_server(kubectl: Kubectl) -> Iterator[ApiServer]:
    """The API server of that cluster, for as long as the block lasts."""
    proxy = subprocess.Popen(
        kubectl.command("proxy", "--port=0"),
        env=environment(os.environ),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert proxy.stdout is not None
        line = proxy.stdout.readline()
        yield ApiServer(int(line.rpartition(":")[2]))
    finally:
        proxy.terminate()
        proxy.communicate()
