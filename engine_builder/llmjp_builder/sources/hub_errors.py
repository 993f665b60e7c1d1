"""Errors for the hub's unsuccessful responses. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import (
    AccessDenied,
    BadToken,
    GatedRepository,
    HubFailed,
    MissingRepository,
)
from llmjp_builder.sources.http import TransientFailure
from llmjp_builder.sources.retries import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.contracts.errors import BuilderError

_GIVE_A_TOKEN = "give a token with --token-file or HF_TOKEN"  # noqa: S105 - says how to give one


_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of an overloaded or failing hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRequest:
    """What was requested from the hub."""

    endpoint: str
    repository: str
    revision: str
    name: str | None = None
    """Name of the file; None for the repository's listing."""
    with_token: bool

    @property
    def subject(self) -> str:
        """What was requested, for messages."""
        return f"{self.repository}: {self.name}" if self.name else self.repository


def translate_response(
    status: int, headers: Mapping[str, str], request: HubRequest
) -> BuilderError | TransientFailure:
    """Translate an unsuccessful response to an error.

    `X-Error-Code` tells what the status leaves open; the hub answers 401 where a repository is
    private or missing and no token was sent.

    Args:
        status: of HTTP, neither 200 nor 206.
        headers: of the response, case-insensitive.
        request: what was requested.

    Returns:
        TryAgain: the hub is busy or ill.
        GatedRepository: access has to be asked for, on the page that the message names.
        BadToken: the token is wrong, or one is needed.
        AccessDenied: the token may not read this.
        MissingRepository: no such repository, revision or file.
        HubFailed: anything else.
    """
    code = headers.get("X-Error-Code", "")
    if status in _PASSING:
        return TransientFailure(f"the hub answers with status {status}", parse_retry_after(headers))
    match status:
        case 401 | 403 if code == "GatedRepo":
            return GatedRepository(_describe_gated(request))
        case 401:
            return BadToken(_describe_unknown_token(request))
        case 403:
            return AccessDenied(
                f"{request.subject}: {request.endpoint} forbids reading it; the token needs "
                "read access to this repository"
            )
        case 404:
            return MissingRepository(_describe_missing(code, request))
        case _:
            return HubFailed(f"{request.subject}: {request.endpoint} answers with status {status}")


def _describe_unknown_token(request: HubRequest) -> str:
    if request.with_token:
        return (
            f"{request.repository}: {request.endpoint} does not accept the token: it is mistyped, "
            "expired or revoked"
        )
    return (
        f"{request.repository}: not on {request.endpoint}, or private: check the name, or "
        f"{_GIVE_A_TOKEN}"
    )


def _describe_gated(request: HubRequest) -> str:
    page = f"{request.endpoint}/{request.repository}"
    if request.with_token:
        return (
            f"{request.repository}: gated, and the token's account has no access yet: ask for it "
            f"on {page}, and try again once it is granted"
        )
    return f"{request.repository}: gated: ask for access on {page}, then {_GIVE_A_TOKEN}"


def _describe_missing(code: str, request: HubRequest) -> str:
    if code == "RevisionNotFound":
        return f"{request.repository}: no revision {request.revision!r} on {request.endpoint}"
    if code == "EntryNotFound" or request.name:
        return f"{request.subject}: not on {request.endpoint} at revision {request.revision}"
    private = "" if request.with_token else f"; if it is private, {_GIVE_A_TOKEN}"
    return f"{request.repository}: no such repository on {request.endpoint}{private}"
