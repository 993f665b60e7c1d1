"""The addresses on which a server listens, and its TLS files."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.defaults import GRPC_PORT, HTTP_PORT, METRICS_PORT
from llmjp_runtime.errors import OptionInvalid

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Files in PEM form."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """Check that the two belong together.

        Raises:
            OptionInvalid: a file is missing or damaged, the key is another certificate's, or locked
                with a passphrase, which tritonserver cannot ask for.
        """
        for name, path in (("--tls-cert", self.certificate), ("--tls-key", self.key)):
            if not path.is_file():
                raise OptionInvalid(f"{name}: {path} is no file")

        def locked() -> str:
            raise OptionInvalid(f"--tls-key: {self.key} is locked with a passphrase")

        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.key, password=locked)
        except (ssl.SSLError, OSError) as exc:
            raise OptionInvalid(
                f"--tls-cert {self.certificate}, --tls-key {self.key}: not a certificate and its "
                f"key in PEM form ({exc})"
            ) from exc

    @property
    def options(self) -> list[str]:
        """The options of tritonserver."""
        return [
            "--grpc-use-ssl=true",
            f"--grpc-server-cert={self.certificate}",
            f"--grpc-server-key={self.key}",
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The addresses on which the server listens."""

    host: str = "127.0.0.1"
    http_port: int = HTTP_PORT
    grpc_port: int = GRPC_PORT
    metrics_port: int = METRICS_PORT
    tls: TlsFiles | None = None
    """Encrypts gRPC. tritonserver's HTTP has no encryption, so that it then listens on this machine
    only, for the front model."""

    @property
    def http_host(self) -> str:
        """Where HTTP listens."""
        return self.host if self.tls is None else "127.0.0.1"

    def list_ports(self, health_port: int) -> dict[str, int]:
        """Return each port by its command line option, the front model's health port included."""
        return {
            "--http-port": self.http_port,
            "--grpc-port": self.grpc_port,
            "--metrics-port": self.metrics_port,
            "--health-port": health_port,
        }
