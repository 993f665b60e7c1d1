"""A hub that speaks the Hugging Face Hub's API: what a repository holds, and the bytes of a file.

The token is sent to the hub and goes nowhere else: not into messages, representations or files.
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
    Unsupported,
)
from llmjp_builder.sources.http import TryAgain, streamed_get, translated
from llmjp_builder.sources.patience import Patience, patiently
from llmjp_builder.sources.refusal import Asked, refusal
from llmjp_builder.store.downloads import is_commit
from llmjp_builder.store.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from llmjp_builder.sources.http import Reply

DEFAULT_ENDPOINT = "https://huggingface.co"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ENDPOINT = re.compile(r"https?://[\w.:\[\]-]+(/[^\s?#@]*)?")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_USER_AGENT = "llmjp-serving"
_MAX_IN_MEMORY = 64 << 20
"""A file that git itself holds has at most 10 MB on the hub; an index in LFS hardly more."""

_MAX_SIZE = 1 << 60
"""Of a file, in bytes: no disk holds more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """What the hub says of a file; exactly one of the two digests is known."""

    size: int
    sha256: str | None
    """Of a file in LFS."""
    blob_id: str | None
    """Of a file that git holds: SHA-1 over git's header and the contents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A repository at one commit."""

    repository: str
    commit: str
    names: tuple[str, ...]
    """Of all files."""
    files: Mapping[str, HubFile]
    """Of those whose size and digest the hub says."""

    def __getitem__(self, name: str) -> HubFile:
        """A file of `names`.

        Raises:
            HubFailed: the hub does not say its size and digest.
        """
        if name not in self.files:
            raise HubFailed(
                f"{self.repository}: the hub does not say size and digest of {name}, "
                "so that it could not be verified; use another endpoint"
            )
        return self.files[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """A hub, and who asks it.

    Attributes:
        endpoint: its address; without one HF_ENDPOINT, or huggingface.co.
        token: for private and gated repositories; without one what huggingface_hub finds: HF_TOKEN,
            or the file that `hf auth login` writes.
        patience: with it.

    Raises:
        InvalidSpec: the endpoint is not an address of a hub.
        BadToken: the token has characters that none has.
    """

    endpoint: str = ""
    token: str | None = field(default=None, repr=False)
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        endpoint = self.endpoint or os.environ.get("HF_ENDPOINT", "") or DEFAULT_ENDPOINT
        object.__setattr__(self, "endpoint", _checked_endpoint(endpoint))
        object.__setattr__(self, "token", _checked_token(self.token or _token_of_the_user()))

    def listing(self, repository: str, revision: str | None) -> Listing:
        """What a repository holds, at the commit that `revision` means now.

        Args:
            repository: `owner/name`.
            revision: a branch, tag or commit; None is the default branch.

        Raises:
            BuilderError: as `refusal` says.
            HubFailed: no answer, or none that can be understood.
        """
        asked = self._asked(repository, revision or "main")

        def attempt() -> Any:
            from huggingface_hub import HfApi
            from huggingface_hub.errors import HfHubHTTPError

            api = HfApi(endpoint=self.endpoint, token=self.token or False)
            try:
                with translated():
                    return api.model_info(
                        repository,
                        revision=revision,
                        files_metadata=True,
                        timeout=self.patience.stall_s,
                    )
            except HfHubHTTPError as exc:
                raise refusal(exc.response.status_code, exc.response.headers, asked) from exc
            except (ValueError, TypeError, KeyError, AttributeError) as exc:
                raise HubFailed(
                    f"{self.endpoint}: its answer about {repository} is not what a hub says "
                    f"({type(exc).__name__}); is this the address of a hub?"
                ) from exc

        return _listing(repository, patiently(attempt, asked.what, patience=self.patience))

    def read(self, listing: Listing, name: str) -> bytes:
        """The contents of a small file, verified.

        Raises:
            CorruptDownload: they are not what the listing says.
            Unsupported: it is too large to be one of those that are read so.
            BuilderError: as `refusal` says.
        """
        file = listing[name]
        if file.size > _MAX_IN_MEMORY:
            raise Unsupported(
                f"{listing.repository}: {name} has {file.size:,} bytes; only weights may be so "
                "large"
            )

        def attempt() -> bytes:
            data = bytearray()
            with self.open(listing.repository, listing.commit, name) as reply:
                for chunk in reply.chunks:
                    data += chunk
                    if len(data) > file.size:
                        break
            if len(data) < file.size:
                raise TryAgain(f"the connection ended at byte {len(data):,} of {file.size:,}")
            return bytes(data)

        data = patiently(attempt, f"{listing.repository}: {name}", patience=self.patience)
        expected = file.sha256 or file.blob_id
        found = hashlib.sha256(data).hexdigest() if file.sha256 else git_blob_id(data)
        if found != expected:
            raise CorruptDownload(
                f"{listing.repository}: {name} arrived damaged: expected digest {expected}, found "
                f"{found}; nothing was kept, try again"
            )
        return data

    @contextmanager
    def open(self, repository: str, commit: str, name: str, offset: int = 0) -> Iterator[Reply]:
        """The bytes of a file from `offset` on (status 206), or all of them (200).

        Raises:
            TryAgain: the hub is busy, or the connection failed, here or in the block.
            BuilderError: as `refusal` says.
        """
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(repository, name, revision=commit, endpoint=self.endpoint)
        headers = {"Accept-Encoding": "identity", "User-Agent": _USER_AGENT}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if offset:
            headers["Range"] = f"bytes={offset}-"
        with streamed_get(url, headers, stall_s=self.patience.stall_s) as reply:
            if reply.status not in {200, 206}:
                elsewhere = urlsplit(reply.url).netloc != urlsplit(self.endpoint).netloc
                if elsewhere or reply.status == 416:
                    raise TryAgain(f"its storage answers with status {reply.status}")
                raise refusal(reply.status, reply.headers, self._asked(repository, commit, name))
            yield reply

    def _asked(self, repository: str, revision: str, name: str | None = None) -> Asked:
        return Asked(
            endpoint=self.endpoint,
            repository=repository,
            revision=revision,
            name=name,
            with_token=self.token is not None,
        )


def git_blob_id(data: bytes) -> str:
    """The name that git gives to a file's contents."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def read_token(path: Path) -> str:
    """The token in a file, without the white space around it.

    Raises:
        MissingFile: there is no such file.
        BadToken: what is in it is no token.
    """
    with os_errors(path):
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not _TOKEN.fullmatch(text):
        raise BadToken(f"{path}: expected a token and nothing else in this file")
    return text


def _listing(repository: str, info: Any) -> Listing:
    """`ModelInfo` of huggingface_hub, with every value checked that is used."""
    if not is_commit(info.sha):
        raise HubFailed(f"{repository}: the hub does not say at which commit it is")
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
    return Listing(
        repository=repository,
        commit=info.sha,
        names=tuple(sibling.rfilename for sibling in info.siblings or ()),
        files=files,
    )


def _checked_endpoint(endpoint: str) -> str:
    if not _ENDPOINT.fullmatch(endpoint):
        raise InvalidSpec(
            "endpoint: expected the address of a hub, https://HOST, without user name or password"
        )
    return endpoint.rstrip("/")


def _token_of_the_user() -> str | None:
    import huggingface_hub

    return huggingface_hub.get_token()


def _checked_token(token: str | None) -> str | None:
    """The token, if it can be sent: HTTP libraries quote one that cannot in their errors."""
    if token is not None and not _TOKEN.fullmatch(token):
        raise BadToken("the token has characters that no token has (white space?); check it")
    return token
