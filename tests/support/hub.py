"""A hub on loopback that speaks what huggingface_hub asks of one, and fails as told.

`Hub` holds repositories and answers listings, trees and files as the Hugging Face Hub does:
commits, LFS and git digests, ranges, error codes, redirects of large files to a storage host of
another origin. `hub.fail(...)` makes the next answers go wrong.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.certificate import Certificate

_LISTING = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")
_TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_STORED = re.compile(r"/storage/([0-9a-f]{64})")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_PIECE = 4096


@dataclass(frozen=True)
class Status:
    """Answers with a status."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """Closes the connection after so many bytes of the body."""

    after: int


@dataclass(frozen=True)
class Corrupt:
    """Sends one wrong byte."""

    at: int = 0


@dataclass(frozen=True)
class Hang:
    """Sends so many bytes and then nothing, until `release` is set."""

    after: int
    release: threading.Event


@dataclass(frozen=True)
class WholeAlways:
    """Takes no notice of ranges."""


Fault = Status | Cut | Corrupt | Hang | WholeAlways


@dataclass(frozen=True)
class Request:
    """One that was made."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class _Planned:
    match: str
    fault: Fault
    times: int


@dataclass
class Repository:
    """Commits and where branches point."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    access: Literal["public", "gated", "private"] = "public"


class Hub:
    """Serves from `with` to its end.

    Args:
        token: the one that is known; it may read private repositories, and gated ones if `granted`.
        granted: whether its account got access to gated repositories.
        redirect: whether files in LFS lie on another origin, as they do at the real hub.
        certificates: of the hub and of its storage; None speaks plainly.
    """

    def __init__(
        self,
        *,
        token: str = "hf_right",
        granted: bool = True,
        redirect: bool = False,
        certificates: tuple[Certificate, Certificate] | None = None,
    ) -> None:
        self.token = token
        self.granted = granted
        self.redirect = redirect
        self.certificates = certificates
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self._faults: list[_Planned] = []
        self._lock = threading.Lock()
        self._servers: list[ThreadingHTTPServer] = []

    def __enter__(self) -> Self:
        for certificate in self.certificates or (None, None):
            server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
            server.daemon_threads = True
            if certificate is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(certificate.certificate, certificate.key)
                server.socket = context.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            self._servers.append(server)
        return self

    def __exit__(self, *_error: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def endpoint(self) -> str:
        """Address of the hub."""
        return self._address(0)

    @property
    def storage(self) -> str:
        """Address of the host that large files are redirected to."""
        return self._address(1)

    def _address(self, index: int) -> str:
        host = "https://localhost" if self.certificates else "http://127.0.0.1"
        return f"{host}:{self._servers[index].server_port}"

    def publish(
        self,
        repository: str,
        files: Mapping[str, bytes],
        *,
        branch: str = "main",
        access: Literal["public", "gated", "private"] = "public",
    ) -> str:
        """A new commit with exactly these files; its id."""
        listed = sorted((name, hashlib.sha256(data).hexdigest()) for name, data in files.items())
        commit = hashlib.sha1(json.dumps([repository, listed]).encode()).hexdigest()
        place = self.repositories.setdefault(repository, Repository())
        place.commits[commit] = dict(files)
        place.branches[branch] = commit
        place.access = access
        return commit

    def fail(self, fault: Fault, match: str = "*", *, times: int = 1) -> None:
        """The next `times` requests whose path matches get the fault."""
        with self._lock:
            self._faults.append(_Planned(match, fault, times))

    def asked_for(self, match: str) -> list[Request]:
        """Requests so far whose path matches."""
        with self._lock:
            return [request for request in self.requests if fnmatchcase(request.path, match)]

    def note(self, request: Request) -> Fault | None:
        """Records a request; what goes wrong with it."""
        with self._lock:
            self.requests.append(request)
            for planned in self._faults:
                if planned.times and fnmatchcase(request.path, planned.match):
                    planned.times -= 1
                    return planned.fault
        return None

    def stored(self, sha256: str) -> bytes | None:
        """A large file by its digest."""
        for repository in self.repositories.values():
            for files in repository.commits.values():
                for data in files.values():
                    if hashlib.sha256(data).hexdigest() == sha256:
                        return data
        return None


def in_lfs(name: str) -> bool:
    """Whether the hub keeps a file of that name outside git."""
    return name.endswith((".safetensors", ".bin", ".gguf"))


def git_blob_id(data: bytes) -> str:
    """Git's name for contents: SHA-1 over a header and them."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def _lfs_pointer(data: bytes) -> bytes:
    oid = hashlib.sha256(data).hexdigest()
    version = "https://git-lfs.github.com/spec/v1"
    return f"version {version}\noid sha256:{oid}\nsize {len(data)}\n".encode()


def _sibling(name: str, data: bytes, *, blobs: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": name}
    if blobs:
        entry |= {"size": len(data), "blobId": git_blob_id(data)}
        if in_lfs(name):
            pointer = _lfs_pointer(data)
            lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            entry |= {
                "blobId": git_blob_id(pointer),
                "lfs": lfs | {"pointerSize": len(pointer)},
            }
    return entry


def _tree_entry(name: str, data: bytes) -> dict[str, Any]:
    sibling = _sibling(name, data, blobs=True)
    entry = {"type": "file", "path": name, "size": len(data), "oid": sibling["blobId"]}
    if lfs := sibling.get("lfs"):
        sizes = {"size": lfs["size"], "pointerSize": lfs["pointerSize"]}
        entry["lfs"] = {"oid": lfs["sha256"], **sizes}
    return entry


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.hub = hub
    return Handler


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Nothing: tests read `requests`."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        try:
            self._answer()
        except ConnectionError:  # clients leave as they like, some because a test kills them
            self.close_connection = True

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        quoted, path = parts.path, unquote(parts.path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        fault = self.hub.note(Request(self.command, path, self.headers.get("Range"), token))
        if isinstance(fault, Status):
            self._refuse(fault.status, extra=fault.headers)
        elif stored := _STORED.fullmatch(path):
            data = self.hub.stored(stored[1])
            assert data is not None
            self._send(data, {}, fault)
        elif asked := _LISTING.fullmatch(quoted):
            blobs = "blobs" in parse_qs(parts.query)
            self._listing(asked[1], unquote(asked[2] or "main"), token, blobs=blobs)
        elif asked := _TREE.fullmatch(quoted):
            self._tree(asked[1], unquote(asked[2]), token)
        elif asked := _FILE.fullmatch(quoted):
            self._file(asked[1], unquote(asked[2]), unquote(asked[3]), token, fault)
        else:
            self._refuse(404)

    def _files(
        self, name: str, revision: str, token: str | None, *, contents: bool
    ) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files, or None after refusing as the real hub does."""
        hub = self.hub
        repository = hub.repositories.get(name)
        if token is not None and token != hub.token:
            self._refuse(401, message="Invalid credentials in Authorization header")
        elif repository is None or (repository.access == "private" and token is None):
            self._refuse(401 if token is None else 404, code="RepoNotFound")
        elif contents and repository.access == "gated" and (token is None or not hub.granted):
            self._refuse(401 if token is None else 403, code="GatedRepo")
        else:
            commit = repository.branches.get(revision, revision)
            if commit in repository.commits:
                return commit, repository.commits[commit]
            self._refuse(404, code="RevisionNotFound")
        return None

    def _listing(self, name: str, revision: str, token: str | None, *, blobs: bool) -> None:
        if found := self._files(name, revision, token, contents=False):
            commit, files = found
            self._json(
                {
                    "_id": "0" * 24,
                    "id": name,
                    "modelId": name,
                    "sha": commit,
                    "private": False,
                    "gated": False,
                    "disabled": False,
                    "downloads": 0,
                    "likes": 0,
                    "tags": [],
                    "siblings": [
                        _sibling(path, files[path], blobs=blobs) for path in sorted(files)
                    ],
                }
            )

    def _tree(self, name: str, revision: str, token: str | None) -> None:
        if found := self._files(name, revision, token, contents=False):
            self._json([_tree_entry(path, data) for path, data in sorted(found[1].items())])

    def _file(
        self, name: str, revision: str, path: str, token: str | None, fault: Fault | None
    ) -> None:
        if not (found := self._files(name, revision, token, contents=True)):
            return
        commit, files = found
        data = files.get(path)
        if data is None:
            self._refuse(404, code="EntryNotFound")
            return
        sha256 = hashlib.sha256(data).hexdigest()
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not in_lfs(path):
            self._send(data, headers | {"ETag": f'"{git_blob_id(data)}"'}, fault)
            return
        headers |= {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{sha256}"'}
        if self.hub.redirect:
            headers |= {"Location": f"{self.hub.storage}/storage/{sha256}?signature=secret"}
            self._head(302, headers, 0)
        else:
            self._send(data, headers | {"ETag": f'"{sha256}"'}, fault)

    def _json(self, value: object) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json"}, None)

    def _refuse(
        self,
        status: int,
        *,
        code: str = "",
        message: str = "",
        extra: Mapping[str, str] | None = None,
    ) -> None:
        said = {"X-Error-Code": code, "X-Error-Message": message}
        self._head(status, {k: v for k, v in said.items() if v} | dict(extra or {}), 0)

    def _head(self, status: int, headers: Mapping[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(self, data: bytes, headers: Mapping[str, str], fault: Fault | None) -> None:
        if isinstance(fault, Corrupt):
            data = data[: fault.at] + bytes([data[fault.at] ^ 1]) + data[fault.at + 1 :]
        asked = _RANGE.fullmatch(self.headers.get("Range") or "")
        if asked and not isinstance(fault, WholeAlways):
            start, last = int(asked[1]), int(asked[2] or len(data) - 1)
            if start >= len(data):
                self._head(416, {"Content-Range": f"bytes */{len(data)}"}, 0)
                return
            said = {"Content-Range": f"bytes {start}-{last}/{len(data)}"}
            self._head(206, {**headers, **said}, last + 1 - start)
            data = data[start : last + 1]
        else:
            self._head(200, headers, len(data))
        if self.command == "HEAD":
            return
        if isinstance(fault, Cut | Hang):
            self.wfile.write(data[: fault.after])
            self.wfile.flush()
            if isinstance(fault, Hang):
                fault.release.wait(60)
            self.close_connection = True
            return
        for begin in range(0, len(data), _PIECE):
            self.wfile.write(data[begin : begin + _PIECE])
