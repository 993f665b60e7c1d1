"""The base of both clients: settings, parsed once, and requests made of them."""

from __future__ import annotations

import ipaddress
import math
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
from tritonclient.grpc import service_pb2 as pb

from ._channels import do_nothing
from ._errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ProtocolError,
    Unavailable,
    from_in_band,
    to_client_error,
)
from ._exchange import Exchange, RetryBudget, RetryPolicy
from ._messages import encode_ready_request, encode_request
from ._types import TLS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from ._types import Options, Prompt

DEFAULT_PORT: Final = 8001
"""Triton's gRPC port unless changed."""

PROBE_TIMEOUT_S: Final = 5.0
"""How long one readiness probe may take."""

PROBE_EVERY_S: Final = 0.2

Metadata: TypeAlias = tuple[tuple[str, str], ...]
"""Headers of a call."""

ReadyAnswer: TypeAlias = pb.ModelStreamInferResponse | pb.ModelReadyResponse | grpc.RpcError | None
"""The model's answer, Triton's, what the call failed with; None where it ended without any."""

_ENDPOINT: Final = re.compile(
    r"(?:(?P<scheme>[a-z]+)://)?(?P<host>\[[0-9A-Fa-f:.%]+]|[^\s:/\[\]]+)(?::(?P<port>\d{1,5}))?/?"
)


@dataclass(frozen=True, slots=True)
class GrpcTarget:
    """A server's gRPC address, and whether calls are encrypted."""

    address: str
    """`host:port`"""
    encrypted: bool

    @classmethod
    def parse(cls, text: str, *, encrypted: bool) -> GrpcTarget:
        """Parse `host:port`, `host`, `grpc://host:port` or `grpcs://host:port` (encrypted).

        Raises:
            ValueError: `text` is none of these.
        """
        match = _ENDPOINT.fullmatch(text)
        if not match or int(match["port"] or 1) not in range(1, 1 << 16):
            raise ValueError(f"endpoint {text!r}: expected host:port, for example localhost:8001")
        if match["scheme"] not in {None, "grpc", "grpcs"}:
            raise ValueError(
                f"endpoint {text!r}: expected the server's gRPC port as host:port, "
                "grpc://host:port or grpcs://host:port"
            )
        address = f"{match['host']}:{match['port'] or DEFAULT_PORT}"
        return cls(address, encrypted or match["scheme"] == "grpcs")

    @property
    def is_loopback(self) -> bool:
        """True if the server is on this machine, which no proxy reaches."""
        host = self.address.rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")


def _read_version() -> str:
    for distribution in ("llmjp-client", "llmjp-serving"):
        with suppress(PackageNotFoundError):
            return version(distribution)
    return "unknown"


CHANNEL_OPTIONS: Final[Mapping[str, int | str]] = {
    "grpc.primary_user_agent": f"llmjp-client/{_read_version()}",
    "grpc.max_receive_message_length": 64 << 20,
    # Notice a peer that vanished silently, with its node. Triton counts pings more frequent than
    # its --grpc-http2-min-recv-ping-interval-without-data (300 s) as abuse.
    "grpc.keepalive_time_ms": 330_000,
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.http2.max_pings_without_data": 0,
    # gRPC waits a second before it reconnects, which would make shorter retries pointless.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 5_000,
    # What is sent again takes a connection of its own (`_channels`), not the one that failed.
    "grpc.use_local_subchannel_pool": 1,
    # A headless Service has an address per pod: use them all.
    "grpc.service_config": '{"loadBalancingConfig":[{"round_robin":{}}]}',
}
"""Defaults; `channel_options` overrides them."""


class BaseClient:
    """The common base of `Client` and `AsyncClient`.

    Pickling keeps the settings (headers and the paths of certificates too), never a connection.
    """

    _close_port_forward: Callable[[], object] = staticmethod(do_nothing)
    """Ends the port-forward of a client from `from_resource`."""

    def __init__(
        self,
        endpoint: str = "localhost:8001",
        *,
        model: str = "llmjp",
        tls: bool | TLS = False,
        metadata: Mapping[str, str] | None = None,
        token: Callable[[], str] | None = None,
        timeout: float | None = 600.0,
        retries: int = 5,
        channel_options: Mapping[str, int | str] | None = None,
    ) -> None:
        """Check the settings; nothing connects before the first call.

        Args:
            endpoint: `host:port` of the server's gRPC port; `grpcs://host:port` encrypts.
            model: name of the Triton model.
            tls: True, or certificates.
            metadata: headers of every call, such as `{"authorization": "Bearer ..."}`.
            token: called for each attempt, and for each question whether the model is ready; what
                it returns is sent as `authorization: Bearer ...`. It should return at once, so keep
                a token until it expires. An asyncio client calls it in its event loop.
            timeout: deadline in seconds of calls that set none; None waits forever.
            retries: of a request of which nothing was answered, each over a new connection; 5 take
                up to 3 s, after which a Service no longer leads to a pod that ended, and up to 16 s
                where the server has no capacity, or as long as it asks for.
            channel_options: gRPC channel arguments; they override ours.

        Raises:
            ValueError: an invalid endpoint or number.
            OSError: a certificate that cannot be read.
        """
        if retries < 0:
            raise ValueError(f"retries: expected 0 or more, found {retries}")
        target = GrpcTarget.parse(endpoint, encrypted=bool(tls))
        self._settings: dict[str, Any] = {
            "model": model,
            "tls": tls,
            "metadata": metadata,
            "token": token,
            "timeout": timeout,
            "retries": retries,
            "channel_options": channel_options,
        }
        self._given_endpoint = endpoint
        self._endpoint = target.address
        self._credentials = _load_credentials(tls) if target.encrypted else None
        self._model = model
        self._metadata = _lower_keys(metadata)
        self._token = token
        self._timeout = _check_timeout(timeout)
        self._retry_policy = RetryPolicy(retries)
        self._retry_budget = RetryBudget()
        self._channel_options = _merge_channel_options(target, tls, channel_options)
        self._setup()

    def _setup(self) -> None:
        """Set up what only a shell needs; called once the settings are known."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._endpoint!r}, model={self._model!r})"

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[Any, ...]]:
        if self._close_port_forward is not do_nothing:
            raise TypeError(
                f"{self!r} leads through a port-forward of this process, which cannot be pickled: "
                "call from_resource in the other process"
            )
        return _rebuild, (type(self), self._given_endpoint, self._settings)

    @property
    def endpoint(self) -> str:
        """The server's gRPC address, `host:port`."""
        return self._endpoint

    @property
    def model(self) -> str:
        """Name of the Triton model."""
        return self._model

    def _begin_exchange(self, prompt: Prompt, options: Options, *, streaming: bool) -> Exchange:
        request = encode_request(
            prompt,
            options,
            model=self._model,
            request_id=options.get("request_id") or uuid.uuid4().hex,
            streaming=streaming,
        )
        timeout = _check_timeout(options.get("timeout")) or self._timeout
        return Exchange(
            request,
            endpoint=self._endpoint,
            retry_policy=self._retry_policy,
            timeout_s=timeout,
            retry_budget=self._retry_budget,
        )

    def _build_metadata(self, of_call: Mapping[str, str] | None = None) -> Metadata:
        """Return the headers of one attempt: the client's, a fresh token, and the call's own."""
        headers = dict(self._metadata)
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token()}"
        return tuple({**headers, **_lower_keys(of_call)}.items())

    def _build_ready_request(self) -> pb.ModelInferRequest:
        """Return the request that the model's own process answers.

        Triton's ModelReady stays true when that process hangs, or its engine failed.
        """
        return encode_ready_request(model=self._model, request_id=uuid.uuid4().hex)

    def _explain_not_ready(self, answer: ReadyAnswer) -> str | None:
        """Return why the model cannot be called yet; None where it can.

        Raises:
            Unsupported: the model does not know the question: ask Triton.
            LlmJpError: waiting would not help.
        """
        match answer:
            case pb.ModelReadyResponse():
                return None if answer.ready else self._say_not_ready()
            case pb.ModelStreamInferResponse():
                if not answer.error_message:
                    return None
                error = from_in_band(answer.error_message)
                if isinstance(error, Unavailable):
                    return f"{self._say_not_ready()}: {error.reason}"
            case None:
                error = ProtocolError("the call ended without an answer")
            case _:
                error = to_client_error(answer)
        if isinstance(error, Unavailable | DeadlineExceeded | ModelNotFound):
            return error.reason
        error.endpoint = self._endpoint
        raise error

    def _say_not_ready(self) -> str:
        return f"the server answers, but model {self._model!r} is not ready"

    def _build_timeout(self, reason: str, timeout: float) -> Unavailable:
        error = Unavailable(f"not ready after {timeout:g} s: {reason}")
        error.endpoint = self._endpoint
        return error


def _rebuild(make: Callable[..., Any], endpoint: str, settings: dict[str, Any]) -> Any:
    return make(endpoint, **settings)


def _lower_keys(metadata: Mapping[str, str] | None) -> dict[str, str]:
    return {key.lower(): value for key, value in (metadata or {}).items()}


def _merge_channel_options(
    target: GrpcTarget,
    tls: bool | TLS,  # noqa: FBT001  as users write it
    given: Mapping[str, int | str] | None,
) -> tuple[tuple[str, int | str], ...]:
    direct = {"grpc.enable_http_proxy": 0} if target.is_loopback else {}
    options = {**CHANNEL_OPTIONS, **direct, **(given or {})}
    if isinstance(tls, TLS) and tls.server_name:
        options["grpc.ssl_target_name_override"] = tls.server_name
    return tuple(options.items())


def _load_credentials(tls: bool | TLS) -> grpc.ChannelCredentials:  # noqa: FBT001  as users write it
    paths = tls if isinstance(tls, TLS) else TLS()
    if (paths.certificate is None) != (paths.key is None):
        raise ValueError("tls: expected certificate and key together, found only one of them")
    ca, key, certificate = (
        Path(path).read_bytes() if path is not None else None
        for path in (paths.ca, paths.key, paths.certificate)
    )
    return grpc.ssl_channel_credentials(ca, key, certificate)


def _check_timeout(timeout: float | None) -> float | None:
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise InvalidRequest(f"timeout: expected seconds above 0, found {timeout!r}")
    return timeout
