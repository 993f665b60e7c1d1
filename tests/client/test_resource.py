"""`from_resource`: what an LlmJpModel says, and the way to its pods."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import Any

import pytest

from llmjp_client import TLS, Client, Unsupported
from llmjp_client._resource import (
    ClientSettings,
    find_direct_address,
    merge_settings,
    parse_model,
)
from llmjp_client.kube import KubeObjectNotFound
from tests.client.resources import ENDPOINT, HOST, SERVES, Object, condition, resource, said


@pytest.mark.parametrize(
    ("status", "serves", "stuck"),
    [
        (None, False, False),
        ({}, False, False),
        (said("Building", condition("Available", "False")), False, False),
        (SERVES, True, False),
        (said("Serving", condition("Available", "True")), False, False),
        (said("Degraded", condition("Available", "True"), endpoint=ENDPOINT), True, False),
        (said("Blocked", condition("Accepted", "False")), False, True),
        (said("Failed", condition("Available", "False")), False, True),
        (said("Failed", condition("Available", "False"), generation=0), False, False),
    ],
)
def test_what_a_status_comes_to(status: Object | None, serves: bool, stuck: bool) -> None:
    found = parse_model(resource(status), "a")
    assert (found.serves, found.stuck) == (serves, stuck)


def test_what_is_read_of_one_that_serves() -> None:
    found = parse_model(resource(SERVES, tls="certificate"), "a")
    assert (found.host, found.port, found.model) == (HOST, 8001, "llmjp")
    assert (found.selector, found.tls) == ("app=a", True)
    least = parse_model({}, "a")
    assert least.selector == "serving.llmjp.dev/model=a,app.kubernetes.io/component=serving"


def test_the_explanation_says_what_does_not_hold() -> None:
    accepted = condition("Accepted", "False", "LicenceNotAccepted", "read the terms")
    found = parse_model(resource(said("Blocked", accepted, condition("EngineReady", "True"))), "a")
    assert found.explain() == (
        "phase Blocked; Accepted is False (LicenceNotAccepted): read the terms"
    )
    assert (
        parse_model({}, "a").explain()
        == "phase Pending; the operator has not reported anything yet"
    )


@pytest.mark.parametrize(
    ("secret", "given", "elsewhere", "tls"),
    [
        ("", {}, True, False),
        ("s", {}, False, True),
        ("s", {}, True, TLS(server_name=HOST)),
        ("s", {"tls": TLS(ca="ca.pem")}, True, TLS(ca="ca.pem", server_name=HOST)),
        ("s", {"tls": TLS(server_name="x")}, True, TLS(server_name="x")),
        ("s", {"tls": False}, True, False),
        ("", {"tls": TLS(ca="ca.pem")}, False, TLS(ca="ca.pem")),
    ],
)
def test_tls(secret: str, given: ClientSettings, elsewhere: bool, tls: object) -> None:
    settings = merge_settings(
        parse_model(resource(SERVES, tls=secret), "a"), given, other_address=elsewhere
    )
    assert (settings["tls"], settings["model"]) == (tls, "llmjp")


def test_nothing_of_it_is_imported_before_it_is_used() -> None:
    program = "import sys, llmjp_client; print({'kubernetes', 'aiohttp'} & {*sys.modules})"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert told.stdout.strip() == b"set()"


def test_the_package_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "llmjp_client.kube")
    monkeypatch.setitem(sys.modules, "kubernetes.aio", None)
    with pytest.raises(Unsupported, match=r"pip install 'llmjp-serving\[cluster\]'"):
        Client.from_resource("a")


class ServiceOnly:
    """What `find_direct_address` asks of a cluster: its Service, and by monkeypatching names."""

    def __init__(self, *, inside: bool, ips: list[str] | None) -> None:
        self.in_cluster = inside
        self._ips = ips

    async def get(self, path: str) -> Object:
        assert path == "/api/v1/namespaces/mine/services/a"
        if self._ips is None:
            raise KubeObjectNotFound("no such Service, or no right to see it")
        return {"spec": {"clusterIPs": self._ips}}


@pytest.mark.parametrize(
    ("inside", "resolves", "ips", "address"),
    [
        (True, ["10.0.0.7"], None, HOST),  # a pod, as usual
        (True, [], ["10.0.0.7"], "10.0.0.7"),  # a pod without DNS
        (True, [], ["fd00::7", "10.0.0.7"], "fd00::7"),
        (True, [], ["None"], None),  # headless: nothing to connect to
        (True, [], None, None),
        (False, [], ["10.0.0.7"], None),  # outside: no packet gets to the Service's address
        (False, ["10.0.0.7"], ["10.0.0.7"], HOST),  # outside, with a way into the cluster
        (False, ["192.0.2.1"], ["10.0.0.7"], None),  # a resolver that knows every name
        (False, ["192.0.2.1"], None, None),
    ],
)
def test_the_way(
    monkeypatch: pytest.MonkeyPatch,
    inside: bool,
    resolves: list[str],
    ips: list[str] | None,
    address: str | None,
) -> None:
    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[Any]:
        assert (host, port) == (HOST, 8001)
        if not resolves:
            raise socket.gaierror
        return [(0, 0, 0, "", (each, port)) for each in resolves]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    cluster: Any = ServiceOnly(inside=inside, ips=ips)
    found = asyncio.run(
        find_direct_address(cluster, "mine", "a", parse_model(resource(SERVES), "a"))
    )
    assert found == address
