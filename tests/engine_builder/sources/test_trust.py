"""Hubs with certificates that no public authority signed."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llmjp_builder.contracts.errors import BadInput, HubUntrusted, MissingFile
from llmjp_builder.contracts.spec import Source
from llmjp_builder.sources.fetch import fetch_source
from llmjp_builder.sources.http import detect_http_library
from llmjp_builder.sources.pinning import resolve_source
from llmjp_builder.sources.trust import VARIABLES, trusting
from tests.support.certificate import Certificate, self_signed, signed
from tests.support.hub import Hub

from .conftest import REPOSITORY, SHARDS, checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

REMOTE = Source(repository=REPOSITORY)


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "localhost")
    for name in (*VARIABLES, "SSL_CERT_DIR", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(place: Path) -> Certificate:
    return self_signed(place / "authority", "authority")


@pytest.fixture(scope="module")
def server(place: Path, authority: Certificate) -> Certificate:
    return signed(place / "server", authority)


@pytest.fixture(scope="module")
def stranger(place: Path) -> Certificate:
    """Another certificate of the same name, by nobody."""
    return self_signed(place / "stranger")


@pytest.fixture
def secure(server: Certificate) -> Iterator[Hub]:
    with Hub(redirect=True, certificates=(server, server)) as hub:
        hub.publish(REPOSITORY, checkpoint())
        yield hub


def test_with_its_authority_a_hub_and_its_storage_are_believed(
    secure: Hub, authority: Certificate, tmp_path: Path
) -> None:
    with trusting(authority.certificate):
        got = fetch_source(REMOTE, store=tmp_path / "store", endpoint=secure.endpoint)
    assert (got.path / SHARDS[0]).read_bytes() == checkpoint()[SHARDS[0]]
    assert secure.asked_for("/storage/*")


def test_without_it_neither_is(secure: Hub, authority: Certificate) -> None:
    for _ in range(2):
        with pytest.raises(HubUntrusted) as caught:
            resolve_source(REMOTE, endpoint=secure.endpoint)
        assert str(caught.value).startswith(f"{secure.endpoint}: its certificate is not trusted: ")
        assert "--ca-file" in str(caught.value)
        assert not caught.value.retryable
        with trusting(authority.certificate):  # and no longer than the block lasts
            resolve_source(REMOTE, endpoint=secure.endpoint)
    with trusting(None), pytest.raises(HubUntrusted):
        resolve_source(REMOTE, endpoint=secure.endpoint)


def test_the_storage_that_is_not_believed_is_named(
    server: Certificate, stranger: Certificate, authority: Certificate, tmp_path: Path
) -> None:
    with Hub(redirect=True, certificates=(server, stranger)) as hub:
        hub.publish(REPOSITORY, checkpoint())
        with trusting(authority.certificate), pytest.raises(HubUntrusted) as caught:
            fetch_source(REMOTE, store=tmp_path / "store", endpoint=hub.endpoint)
        assert str(caught.value).startswith(f"{hub.storage}: its certificate is not trusted")
        assert "secret" not in str(caught.value)


def test_a_certificate_for_another_name(place: Path, authority: Certificate) -> None:
    other = signed(place / "other", authority, "hub.example")
    with Hub(certificates=(other, other)) as hub:
        hub.publish(REPOSITORY, checkpoint())
        with trusting(authority.certificate), pytest.raises(HubUntrusted) as caught:
            resolve_source(REMOTE, endpoint=hub.endpoint)
        assert "localhost" in str(caught.value)
        assert "--ca-file" not in str(caught.value), "that would not help"


@pytest.mark.parametrize("named", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
def test_what_was_trusted_before_still_is(
    named: str,
    secure: Hub,
    authority: Certificate,
    stranger: Certificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "trusted"
    folder.mkdir()
    (folder / "one.pem").write_bytes(authority.certificate.read_bytes())
    value = folder if named == "SSL_CERT_DIR" else folder / "one.pem"
    monkeypatch.setenv(named, str(value))
    with trusting(stranger.certificate):
        resolve_source(REMOTE, endpoint=secure.endpoint)


def test_public_authorities_are_in_the_bundle_and_it_goes_in_the_end(
    authority: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = self_signed(tmp_path / "public").certificate
    monkeypatch.setattr("llmjp_builder.sources.trust._find_public_authorities", lambda: str(public))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(VARIABLES[1], "")
    with trusting(authority.certificate):
        [bundle] = {Path(os.environ[name]) for name in VARIABLES}
        text = bundle.read_text(encoding="ascii")
        for certificate in (public, authority.certificate):
            assert certificate.read_text().strip() in text
    assert not bundle.exists()
    assert (os.environ.get(VARIABLES[0]), os.environ[VARIABLES[1]]) == (None, "")


def test_the_image_of_the_builder_has_no_certifi(
    secure: Hub, authority: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    if detect_http_library() != "httpx2":
        pytest.skip("requests and httpx bring it")
    monkeypatch.setitem(sys.modules, "certifi", None)
    with trusting(authority.certificate):
        resolve_source(REMOTE, endpoint=secure.endpoint)


def test_words_and_keys_around_certificates_are_left_out(
    secure: Hub, authority: Certificate, tmp_path: Path
) -> None:
    file = tmp_path / "ca.crt"
    text = authority.certificate.read_text()
    file.write_text(f"# 社内認証局\n{text}\n{authority.key.read_text()}", encoding="utf-8")
    with trusting(file):
        resolve_source(REMOTE, endpoint=secure.endpoint)
        assert "PRIVATE" not in Path(os.environ[VARIABLES[0]]).read_text(encoding="ascii")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no certificate in PEM form"),
        ("hello", "no certificate in PEM form"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is damaged"),
        ("-----BEGIN CERTIFICATE-----\nAAA", "no certificate in PEM form"),
    ],
)
def test_what_is_no_certificate(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text(text)
    before = dict(os.environ)
    with pytest.raises(BadInput, match=words), trusting(file):
        pass
    assert dict(os.environ) == before


def test_a_damaged_one_beside_a_whole_one(authority: Certificate, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    lines = authority.certificate.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines, *lines[:2], *lines[3:]]))
    with pytest.raises(BadInput, match="is damaged"), trusting(file):
        pass


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFile), trusting(tmp_path / "ca.crt"):
        pass
