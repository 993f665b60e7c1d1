"""Authorities of one's own, for a hub whose certificate no public authority signed."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llmjp_builder.disk import os_errors
from llmjp_builder.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import MutableMapping

VARIABLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
"""Where the HTTP libraries under huggingface_hub look for a file of all authorities: httpx and
OpenSSL the first, requests the second."""


def trust_also(file: Path, environ: MutableMapping[str, str] | None = None) -> Path:
    """Trust the authorities in `file` besides those that were trusted before.

    Both go into one new file, which the environment names from here on: call this before anything
    is downloaded.

    Raises:
        BadInput: it holds no certificates.
        MissingFile: it is not there.
    """
    settings = os.environ if environ is None else environ
    with os_errors(file):
        own = file.read_bytes()
    try:
        ssl.create_default_context().load_verify_locations(cadata=own.decode("ascii"))
    except (ssl.SSLError, ValueError) as exc:
        raise BadInput(f"{file}: no certificates in PEM form: {exc}") from exc
    both = Path(tempfile.mkdtemp(prefix="llmjp-ca-")) / "ca.crt"
    with os_errors(both):
        both.write_bytes(_trusted_before(settings) + b"\n" + own)
    for name in VARIABLES:
        settings[name] = str(both)
    return both


def _trusted_before(environ: MutableMapping[str, str]) -> bytes:
    import certifi

    named = next((environ[name] for name in VARIABLES if environ.get(name)), certifi.where())
    path = Path(named)
    with os_errors(path):
        return path.read_bytes()
