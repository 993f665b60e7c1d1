"""Certificates are looked at before a server starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmjp_runtime.errors import OptionInvalid
from llmjp_runtime.server.endpoints import Endpoints, TlsFiles
from tests.support.certificate import Certificate, self_signed


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("own"))


def check(certificate: Path, key: Path) -> None:
    TlsFiles(certificate=certificate, key=key).check()


def test_a_certificate_and_its_key(own: Certificate) -> None:
    check(*own)


def test_a_file_that_is_not_there(own: Certificate, tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match=r"--tls-cert: .*/none is no file"):
        check(tmp_path / "none", own.key)
    with pytest.raises(OptionInvalid, match=r"--tls-key: .*/none is no file"):
        check(own.certificate, tmp_path / "none")


def test_files_that_do_not_belong_together(own: Certificate, tmp_path: Path) -> None:
    other = self_signed(tmp_path)
    for pair in ((own.certificate, other.key), (own.key, own.certificate)):
        with pytest.raises(OptionInvalid, match="not a certificate and its key"):
            check(*pair)
    (tmp_path / "text").write_text("no PEM")
    with pytest.raises(OptionInvalid, match="not a certificate and its key"):
        check(tmp_path / "text", own.key)


def test_a_locked_key_is_not_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match="locked with a passphrase"):
        check(*self_signed(tmp_path, passphrase="secret"))


def test_with_encryption_http_is_for_this_machine(own: Certificate) -> None:
    tls = TlsFiles(certificate=own.certificate, key=own.key)
    assert Endpoints(host="0.0.0.0").http_host == "0.0.0.0"
    assert Endpoints(host="0.0.0.0", tls=tls).http_host == "127.0.0.1"
