"""A hub with the Hugging Face Hub's API: listing a repository, and reading its files.

The token is sent to the hub only: it appears in no message, representation or file.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmjp_builder.contracts.errors import (
    BadToken,
    CorruptDownload,
    HubFailed,
    InvalidSpec,
    UnsupportedRequest,
)
from llmjp_builder.sources.http import TransientFailure, stream_get, translated_http_errors
from llmjp_builder.sources.hub_errors import HubRequest, translate_response
from llmjp_builder.sources.retries import HubRetryPolicy, retry
from llmjp_builder.store.downloads import is_commit
from llmjp_builder.store.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from llmjp_builder.sources.http import HubResponse

DEFAULT_ENDPOINT = "https://huggingface.co"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ENDPOINT = re.compile(r"https?://[\w.:\[\]-]+(/[^\s?#@]*)?")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_USER_AGENT = "llmjp-serving"
_MAX_IN_MEMORY = 64 << 20
"""A file that git itself holds has at most 10 MB on the hub; an index in LFS hardly more."""

_MAX_SIZE = 1 << 60
"""Largest credible file in bytes: no disk holds more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file as the hub lists it; exactly one of the two digests is known."""

    size: int
    sha256: str | None
    """For files in LFS."""
    blob_id: str | None
    """For files in git itself: SHA-1 over git's header and the contents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryListing:
    """A repository at one commit."""

    repository: str
    commit: str
    names: tuple[str, ...]
    """Names of all files."""
    files: Mapping[str, HubFile]
    """The files whose size and digest the hub tells, by name."""

    def __getitem__(self, name: str) -> HubFile:
        """Return a file of `names`.

        Raises:
            HubFailed: the hub does not tell its size and digest.
        """
        if name not in self.files:
            raise HubFailed(
                f"{self.repository}: the hub does not tell size and digest of {name}, "
                "so it cannot be verified; use another endpoint"
            )
        return self.files[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """A hub and the credentials to use it.

    Attributes:
        endpoint: its address; without one HF_ENDPOINT, or huggingface.co.
        token: for private and gated repositories; without one what huggingface_hub finds: HF_TOKEN,
            or the file that `hf auth login` writes.
        retry_policy: how often and how long failed requests are retried.

    Raises:
        InvalidSpec: the endpoint is not an address of a hub.
        BadToken: the token has characters that no token has.
    """

    endpoint: str = ""
    token: str | None = field(default=None, repr=False)
    retry_policy: HubRetryPolicy = field(default_factory=HubRetryPolicy)

    def __post_init__(self) -> None:
        endpoint = self.endpoint or os.environ.get("HF_ENDPOINT", "") or DEFAULT_ENDPOINT
        object.__setattr__(self, "endpoint", _validate_endpoint(endpoint))
        object.__setattr__(self, "token", _validate_token(self.token or _find_user_token()))

    def list_files(self, repository: str, revision: str | None) -> RepositoryListing:
        """List a repository's files at the commit that `revision` means now.

        Args:
            repository: `owner/name`.
            revision: a branch, tag or commit; None is the default branch.

        Raises:
            BuilderError: as `translate_response` says.
            HubFailed: no answer, or an unintelligible one.
        """
        request = self._make_request(repository, revision or "main")

        def attempt() -> Any:
            from huggingface_hub import HfApi
            from huggingface_hub.errors import HfHubHTTPError

            api = HfApi(endpoint=self.endpoint, token=self.token or False)
            try:
                with translated_http_errors():
                    return api.model_info(
                        repository,
                        revision=revision,
                        files_metadata=True,
                        timeout=self.retry_policy.stall_s,
                    )
            except HfHubHTTPError as exc:
                raise translate_response(
                    exc.response.status_code, exc.response.headers, request
                ) from exc
            except (ValueError, TypeError, KeyError, AttributeError) as exc:
                raise HubFailed(
                    f"{self.endpoint}: its answer about {repository} is not that of a hub "
                    f"({type(exc).__name__}); is this the address of a hub?"
                ) from exc

        return _parse_listing(
            repository, retry(attempt, request.subject, retry_policy=self.retry_policy)
        )

    def read_file(self, listing: RepositoryListing, name: str) -> bytes:
        """Return the contents of a small file, verified.

        Raises:
            CorruptDownload: they are not what the listing says.
            UnsupportedRequest: it is too large for any file but weights.
            BuilderError: as `translate_response` says.
        """
        file = listing[name]
        if file.size > _MAX_IN_MEMORY:
            raise UnsupportedRequest(
                f"{listing.repository}: {name} has {file.size:,} bytes; only weights may be so "
                "large"
            )

        def attempt() -> bytes:
            data = bytearray()
            with self.open_file(listing.repository, listing.commit, name) as reply:
                for chunk in reply.chunks:
                    data += chunk
                    if len(data) > file.size:
                        break
            if len(data) < file.size:
                raise TransientFailure(
                    f"the connection ended at byte {len(data):,} of {file.size:,}"
                )
            return bytes(data)

        data = retry(attempt, f"{listing.repository}: {name}", retry_policy=self.retry_policy)
        expected = file.sha256 or file.blob_id
        found = hashlib.sha256(data).hexdigest() if file.sha256 else compute_git_blob_id(data)
        if found != expected:
            raise CorruptDownload(
                f"{listing.repository}: {name} arrived damaged: expected digest {expected}, found "
                f"{found}; nothing was kept, try again"
            )
        return data

    @contextmanager
    def open_file(
        self, repository: str, commit: str, name: str, offset: int = 0
    ) -> Iterator[HubResponse]:
        """Open a file from `offset` on (status 206), or all of it (200).

        Raises:
            TryAgain: the hub is busy, or the connection failed, here or in the block.
            BuilderError: as `translate_response` says.
        """
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(repository, name, revision=commit, endpoint=self.endpoint)
        headers = {"Accept-Encoding": "identity", "User-Agent": _USER_AGENT}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if offset:
            headers["Range"] = f"bytes={offset}-"
        with stream_get(url, headers, stall_s=self.retry_policy.stall_s) as reply:
            if reply.status not in {200, 206}:
                elsewhere = urlsplit(reply.url).netloc != urlsplit(self.endpoint).netloc
                if elsewhere or reply.status == 416:
                    raise TransientFailure(f"its storage answers with status {reply.status}")
                raise translate_response(
                    reply.status, reply.headers, self._make_request(repository, commit, name)
                )
            yield reply

    def _make_request(self, repository: str, revision: str, name: str | None = None) -> HubRequest:
        return HubRequest(
            endpoint=self.endpoint,
            repository=repository,
            revision=revision,
            name=name,
            with_token=self.token is not None,
        )


def compute_git_blob_id(data: bytes) -> str:
    """Return git's id for a file's contents."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def read_token(path: Path) -> str:
    """Read the token in a file, without surrounding white space.

    Raises:
        MissingFile: there is no such file.
        BadToken: its contents are no token.
    """
    with os_errors(path):
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not _TOKEN.fullmatch(text):
        raise BadToken(f"{path}: expected a token and nothing else in this file")
    return text


def _parse_listing(repository: str, info: Any) -> RepositoryListing:
    """Parse huggingface_hub's `ModelInfo`; every value that is used is checked."""
    if not is_commit(info.sha):
        raise HubFailed(f"{repository}: the hub does not tell which commit it is at")
    files = {}
    for sibling in info.siblings or ():
        size, lfs, blob_id = sibling.size, sibling.lfs, sibling.blob_id
        sha256 = lfs.sha256 if lfs is not None else None
        if not isinstance(size, int) or not 0 <= size < _MAX_SIZE:
            continue
        if isinstance(sha256, str) and _SHA256.fullmatch(sha256):
            files[sibling.rfilename] = HubFile(size=size, sha256=sha256, blob_id=None)
        elif lfs is None and isinstance(blob_id, str) and is_commit(blob_id):
            files[sibling.rfilename] = HubFile(size=size, sha256=None, blob_id=blob_id)
    return RepositoryListing(
        repository=repository,
        commit=info.sha,
        names=tuple(sibling.rfilename for sibling in info.siblings or ()),
        files=files,
    )


def _validate_endpoint(endpoint: str) -> str:
    if not _ENDPOINT.fullmatch(endpoint):
        raise InvalidSpec(
            "endpoint: expected the address of a hub, https://HOST, without user name or password"
        )
    return endpoint.rstrip("/")


def _find_user_token() -> str | None:
    import huggingface_hub

    return huggingface_hub.get_token()


def _validate_token(token: str | None) -> str | None:
    """Return the token if it can be sent: HTTP libraries quote one that cannot in their errors."""
    if token is not None and not _TOKEN.fullmatch(token):
        raise BadToken("the token has characters that no token has (white space?); check it")
    return token
