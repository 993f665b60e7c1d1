"""One streamed GET through huggingface_hub's own session, whichever HTTP library is under it.

huggingface_hub has requests below 1.0, httpx below 2.0 and httpx2 since; its session brings
proxies, certificates and HF_HUB_OFFLINE as its users set them. Redirects are followed, and all
three libraries drop the Authorization header when a redirect leaves the host.

Why not `hf_hub_download`: since huggingface/huggingface_hub#4228 it writes to a new file each time
and deletes it on any failure, so that a killed download starts over and leaves its file behind; and
it waits as long as `Retry-After` says, in silence.
"""

from __future__ import annotations

import importlib
import re
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmjp_builder.contracts.errors import HubFailed, HubUntrusted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PIECE = 1 << 14
"""Read at once through requests, which loses what has arrived of a piece when it is cut."""
_LIBRARIES = ("httpx2", "httpx", "requests")
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's codes for a chain that ends at nobody who is trusted."""


class TransientFailure(Exception):
    """A request failed, but a retry may succeed: connection lost, server overloaded.

    Attributes:
        after_s: seconds to wait, where the server asks for it.
    """

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class HubResponse:
    """A response whose body is not read yet."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    url: str
    """After redirects."""
    chunks: Iterator[bytes]
    """As they arrive."""


@contextmanager
def stream_get(url: str, headers: Mapping[str, str], *, stall_s: float) -> Iterator[HubResponse]:
    """Yield the response to a GET, whatever its status.

    Args:
        url: absolute.
        headers: sent besides the session's own.
        stall_s: how long connecting, or the next byte, may take.

    Raises:
        TryAgain: the connection failed, was cut or stalled, here or while the block reads.
        HubUntrusted: the server's certificate is not trusted.
        HubFailed: HF_HUB_OFFLINE forbids requests.
    """
    from huggingface_hub import get_session

    session: Any = get_session()
    with translated_http_errors():
        if hasattr(session, "build_request"):
            with session.stream(
                "GET", url, headers=dict(headers), timeout=stall_s, follow_redirects=True
            ) as response:
                yield HubResponse(
                    response.status_code, response.headers, str(response.url), response.iter_bytes()
                )
        else:
            with session.get(url, headers=dict(headers), timeout=stall_s, stream=True) as response:
                yield HubResponse(
                    response.status_code,
                    response.headers,
                    response.url,
                    response.iter_content(_PIECE),
                )


@contextmanager
def translated_http_errors() -> Iterator[None]:
    """Translate the HTTP library's errors in the block to ours.

    Raises:
        TryAgain: the connection failed, was cut or stalled.
        HubUntrusted: the server's certificate is not trusted.
        HubFailed: HF_HUB_OFFLINE forbids requests.
    """
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except HfHubHTTPError:
        raise  # a response, not a transport error
    except OfflineModeIsEnabled as exc:
        raise HubFailed(
            "HF_HUB_OFFLINE forbids every request; unset it, or give a folder or a commit that "
            "is in the store"
        ) from exc
    except _list_transport_errors() as exc:
        if (cause := _find_certificate_error(exc)) is not None:
            raise _make_untrusted_error(cause, exc) from exc
        # Addresses of storage hosts carry signatures in their query.
        reason = re.sub(r"\?\S+", "?...", str(exc)) or "no answer"
        raise TransientFailure(f"{type(exc).__name__}: {reason}") from exc


def detect_http_library() -> str:
    """Return the name of huggingface_hub's HTTP library; empty for an unknown one."""
    from huggingface_hub import get_session

    owners = (owner.__module__.partition(".")[0] for owner in type(get_session()).__mro__)
    return next((name for name in owners if name in _LIBRARIES), "")


def reset_session() -> None:
    """Close the session, so that the next request reads certificates and proxies anew."""
    import huggingface_hub.utils

    reset = "close_session" if hasattr(huggingface_hub.utils, "close_session") else "reset_sessions"
    getattr(huggingface_hub.utils, reset)()


def _list_transport_errors() -> tuple[type[Exception], ...]:
    """List the base classes of the HTTP library's transport errors."""
    if not (name := detect_http_library()):
        return ()
    module = importlib.import_module(name)
    return (getattr(module, "RequestError", None) or module.RequestException,)


def _find_certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the certificate error behind an error, if there is one."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _make_untrusted_error(cause: ssl.SSLCertVerificationError, error: Exception) -> HubUntrusted:
    url = urlsplit(str(getattr(getattr(error, "request", None), "url", "")))
    advice = (
        "; give the authority that signed it with --ca-file (caSecretRef of an LlmJpModel)"
        if cause.verify_code in _UNKNOWN_AUTHORITY
        else ""
    )
    return HubUntrusted(
        f"{url.scheme}://{url.netloc.rpartition('@')[2]}: its certificate is not trusted: "
        f"{cause.verify_message}{advice}"
    )
