"""What the constructor accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmjp_client import TLS, AsyncClient, Client
from llmjp_client._base import GrpcTarget

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("localhost:8001", GrpcTarget("localhost:8001", encrypted=False)),
        ("localhost", GrpcTarget("localhost:8001", encrypted=False)),
        ("llm.example.org:9", GrpcTarget("llm.example.org:9", encrypted=False)),
        ("grpc://10.0.0.1:80", GrpcTarget("10.0.0.1:80", encrypted=False)),
        ("grpcs://10.0.0.1:443/", GrpcTarget("10.0.0.1:443", encrypted=True)),
        ("[::1]:8001", GrpcTarget("[::1]:8001", encrypted=False)),
        ("grpcs://[fe80::1]", GrpcTarget("[fe80::1]:8001", encrypted=True)),
    ],
)
def test_endpoints(text: str, endpoint: GrpcTarget) -> None:
    assert GrpcTarget.parse(text, encrypted=False) == endpoint
    assert GrpcTarget.parse(text, encrypted=True).encrypted


@pytest.mark.parametrize(
    "text",
    ["", ":8001", "a:b", "a:0", "a:65536", "a b:1", "::1", "a:1/v2", "http://a:8000", "dns:///a:1"],
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match=r"endpoint .* expected"):
        GrpcTarget.parse(text, encrypted=False)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "settings",
    [
        {"retries": -1},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"tls": TLS(certificate="x.pem")},
    ],
)
def test_settings_that_make_no_sense(
    kind: type[Client | AsyncClient], settings: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(settings))}: "):
        kind("localhost:1", **settings)


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ca\.pem"):
        Client("localhost:1", tls=TLS(ca=tmp_path / "ca.pem"))


@pytest.mark.parametrize(
    ("endpoint", "loopback"),
    [
        ("localhost", True),
        ("model.localhost:8001", True),
        ("127.8.9.1:8001", True),
        ("grpcs://[::1]:8001", True),
        ("[fe80::1%1]:8001", False),
        ("localhost.example.org", False),
        ("10.0.0.1:8001", False),
        ("0.0.0.0:8001", False),
    ],
)
def test_which_endpoints_are_on_this_machine(endpoint: str, loopback: bool) -> None:
    assert GrpcTarget.parse(endpoint, encrypted=False).is_loopback is loopback
