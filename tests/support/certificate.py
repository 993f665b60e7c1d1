"""Certificates for tests, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest


class Certificate(NamedTuple):
    """Files in PEM form."""

    certificate: Path
    key: Path


def self_signed(folder: Path, name: str = "localhost", passphrase: str = "") -> Certificate:
    """A certificate that is its own authority; skips the test without openssl."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(folder / "tls.crt", folder / "tls.key")
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 2 -subj /CN=test"
    lock = ["-passout", f"pass:{passphrase}"] if passphrase else ["-nodes"]
    files = ["-keyout", str(made.key), "-out", str(made.certificate)]
    names = ["-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run(
        [openssl, *request.split(), *lock, *names, *files], check=True, capture_output=True
    )
    return made


def signed(folder: Path, authority: Certificate, name: str = "localhost") -> Certificate:
    """A server's certificate that `authority` signed."""
    made, request = self_signed(folder, name), folder / "tls.csr"
    extensions = folder / "extensions"
    extensions.write_text(f"basicConstraints=CA:FALSE\nsubjectAltName=DNS:{name}\n")
    _openssl("req", "-new", "-key", made.key, "-subj", "/CN=server", "-out", request)
    by = ("-CA", authority.certificate, "-CAkey", authority.key, "-CAcreateserial", "-days", "2")
    _openssl("x509", "-req", "-in", request, *by, "-extfile", extensions, "-out", made.certificate)
    return made


def _openssl(*arguments: str | Path) -> None:
    command = [shutil.which("openssl") or "openssl", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)
