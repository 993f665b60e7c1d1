"""What an answer of the hub other than the wanted one means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import (
    BadToken,
    GatedRepository,
    HubFailed,
    MissingRepository,
    NotPermitted,
)
from llmjp_builder.sources.http import TryAgain
from llmjp_builder.sources.patience import asked_wait_s

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.contracts.errors import BuilderError

_GIVE_A_TOKEN = "give a token with --token-file or HF_TOKEN"  # noqa: S105 - says how to give one


_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of a hub that is busy or ill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the hub was asked for."""

    endpoint: str
    repository: str
    revision: str
    name: str | None = None
    """Of the file; None for the repository's listing."""
    with_token: bool

    @property
    def what(self) -> str:
        """For messages."""
        return f"{self.repository}: {self.name}" if self.name else self.repository


def refusal(status: int, headers: Mapping[str, str], asked: Asked) -> BuilderError | TryAgain:
    """The error that an answer stands for.

    The hub says in `X-Error-Code` what its status leaves open; it answers 401 where a repository is
    private or absent and no token was sent.

    Args:
        status: of HTTP, neither 200 nor 206.
        headers: of the answer; upper and lower case are the same.
        asked: what for.

    Returns:
        TryAgain: the hub is busy or ill.
        GatedRepository: access has to be asked for, on the page that the message names.
        BadToken: the token is wrong, or one is needed.
        NotPermitted: the token may not read this.
        MissingRepository: no such repository, revision or file.
        HubFailed: anything else.
    """
    code = headers.get("X-Error-Code", "")
    if status in _PASSING:
        return TryAgain(f"the hub answers with status {status}", asked_wait_s(headers))
    match status:
        case 401 | 403 if code == "GatedRepo":
            return GatedRepository(_gated(asked))
        case 401:
            return BadToken(_unknown_token(asked))
        case 403:
            return NotPermitted(
                f"{asked.what}: {asked.endpoint} forbids reading it; the token needs read access "
                "to this repository"
            )
        case 404:
            return MissingRepository(_missing(code, asked))
        case _:
            return HubFailed(f"{asked.what}: {asked.endpoint} answers with status {status}")


def _unknown_token(asked: Asked) -> str:
    if asked.with_token:
        return (
            f"{asked.repository}: {asked.endpoint} does not accept the token: it is mistyped, "
            "expired or revoked"
        )
    return (
        f"{asked.repository}: not on {asked.endpoint}, or private: check the name, or "
        f"{_GIVE_A_TOKEN}"
    )


def _gated(asked: Asked) -> str:
    page = f"{asked.endpoint}/{asked.repository}"
    if asked.with_token:
        return (
            f"{asked.repository}: gated, and the token's account has no access yet: ask for it on "
            f"{page}, and try again once it was granted"
        )
    return f"{asked.repository}: gated: ask for access on {page}, then {_GIVE_A_TOKEN}"


def _missing(code: str, asked: Asked) -> str:
    if code == "RevisionNotFound":
        return f"{asked.repository}: no revision {asked.revision!r} on {asked.endpoint}"
    if code == "EntryNotFound" or asked.name:
        return f"{asked.what}: not on {asked.endpoint} at revision {asked.revision}"
    private = "" if asked.with_token else f"; if it is private, {_GIVE_A_TOKEN}"
    return f"{asked.repository}: no such repository on {asked.endpoint}{private}"
