"""Certificates of one cluster, made by openssl: one authority, one certificate per identity.

Kubernetes takes a client's user from the certificate's common name and its groups from the
organisations; the users of the components are those that its bootstrap policy gives roles to.
"""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hack.local_cluster.errors import SetupFailed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ADMIN: Final = "admin"
"""Identity that may do everything."""

_DAYS: Final = "30"
"""Longer than any cluster lives."""
_OPENSSL_CONFIG: Final = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth, serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a certificate says it is."""

    name: str
    """Of the files: `<name>.crt`, `<name>.key`."""
    subject: str
    """As openssl takes it, such as `/O=system:nodes/CN=system:node:node0`."""
    alternatives: tuple[str, ...] = ()
    """Addresses of a server: `IP:127.0.0.1`, `DNS:localhost`."""


def issue(folder: Path, identities: Sequence[Identity]) -> None:
    """Write `ca.crt`, and a key and a certificate per identity, into `folder`.

    Raises:
        SetupFailed: openssl refused.
    """
    folder.mkdir(mode=0o700)
    (folder / "openssl.cnf").write_text(_OPENSSL_CONFIG, "ascii")
    _openssl(folder, Identity("ca", "/CN=llmjp-cluster"), ["-extensions", "authority"])
    for identity in identities:
        options = ["-extensions", "leaf", "-CA", "ca.crt", "-CAkey", "ca.key"]
        if identity.alternatives:
            options += ["-addext", f"subjectAltName={','.join(identity.alternatives)}"]
        _openssl(folder, identity, options)


def _openssl(folder: Path, identity: Identity, options: Sequence[str]) -> None:
    command = [
        *("openssl", "req", "-x509", "-config", "openssl.cnf", "-batch", "-days", _DAYS),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"),
        *("-subj", identity.subject),
        *("-keyout", f"{identity.name}.key", "-out", f"{identity.name}.crt"),
        *options,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupFailed(command, done.returncode, done.stderr)
    (folder / f"{identity.name}.key").chmod(0o600)


def kubeconfig(folder: Path, name: str, server: str) -> str:
    """A kubeconfig (JSON, which is YAML) that holds the certificates of `name` themselves."""
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "llmjp",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": _base64(folder / "ca.crt"),
                },
            }
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": _base64(folder / f"{name}.crt"),
                    "client-key-data": _base64(folder / f"{name}.key"),
                },
            }
        ],
        "contexts": [{"name": "llmjp", "context": {"cluster": "llmjp", "user": name}}],
        "current-context": "llmjp",
    }
    return json.dumps(document, indent=1)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
