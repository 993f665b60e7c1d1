"""Custom certificate authorities, for a hub whose certificate no public authority signed."""

from __future__ import annotations

import os
import re
import ssl
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llmjp_builder.contracts.errors import BadInput
from llmjp_builder.sources.http import detect_http_library, reset_session
from llmjp_builder.store.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
"""Where the HTTP libraries under huggingface_hub look for a file of all authorities: httpx and
httpx2 the first, requests the second."""

_FOLDER: Final = "SSL_CERT_DIR"
_SYSTEM: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Bundles of Debian, Fedora, SUSE and Alpine."""
_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----"
)


@contextmanager
def trusting(file: Path | None) -> Iterator[None]:
    """Trust the authorities in `file`, besides the default ones, while the block runs.

    Both go into one temporary file, named by environment variables that all the HTTP libraries
    read. Only one thread at a time may enter the block.

    Args:
        file: in PEM form; None changes nothing.

    Raises:
        BadInput: it holds no certificates, or damaged ones.
        MissingFile: it is not there.
    """
    if file is None:
        yield
        return
    own = _read_authorities(file)
    before = {name: os.environ.get(name) for name in VARIABLES}
    with os_errors(Path(tempfile.gettempdir())):
        folder = tempfile.TemporaryDirectory(prefix="llmjp-ca-")
    with folder as place:
        bundle = Path(place) / "ca.crt"
        with os_errors(bundle):
            bundle.write_bytes(_read_default_authorities() + b"\n" + own + b"\n")
        try:
            os.environ.update(dict.fromkeys(VARIABLES, str(bundle)))
            reset_session()
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            reset_session()


def _read_authorities(file: Path) -> bytes:
    """Read the certificates in a file, without text and keys around them."""
    with os_errors(file):
        found = _extract_certificates(file)
    if not found:
        raise BadInput(f"{file}: no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found.decode())
    except ssl.SSLError as exc:
        raise BadInput(f"{file}: a certificate in it is damaged: {exc.reason or exc}") from exc
    return found


def _read_default_authorities() -> bytes:
    """Read the certificates that huggingface_hub's HTTP library trusts by default."""
    named = (os.environ.get(name) for name in (*VARIABLES, _FOLDER))
    place = Path(next(filter(None, named), None) or _find_public_authorities())
    with os_errors(place):
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        return b"\n".join(_extract_certificates(path) for path in files if path.is_file())


def _find_public_authorities() -> str:
    """Find the file or folder of the public authorities: the system's, or a package's."""
    if detect_http_library() != "httpx2":
        import certifi

        return certifi.where()
    paths = ssl.get_default_verify_paths()
    places = (paths.openssl_cafile, *_SYSTEM, paths.openssl_capath)
    return next(filter(os.path.exists, places), os.devnull)


def _extract_certificates(file: Path) -> bytes:
    return b"\n".join(_CERTIFICATE.findall(file.read_bytes()))
