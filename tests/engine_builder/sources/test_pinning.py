"""Pinning folders and repositories."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

import huggingface_hub
import pytest

from llmjp_builder.contracts.errors import (
    BadToken,
    BuilderError,
    CorruptDownload,
    GatedRepository,
    HubFailed,
    InvalidSpec,
    LicenceNotAccepted,
    MissingFile,
    MissingRepository,
)
from llmjp_builder.contracts.spec import Progress, Source
from llmjp_builder.sources.hub import Hub as Client
from llmjp_builder.sources.hub import read_token
from llmjp_builder.sources.pinning import (
    parse_source,
    resolve_repository,
    resolve_source,
)
from llmjp_builder.sources.retries import HubRetryPolicy
from llmjp_builder.store.downloads import ResolvedSource
from llmjp_builder.store.hashing import HashCache
from tests.support.hub import Corrupt, Cut, Hub, Status

from .conftest import REPOSITORY, SHARDS, checkpoint, needed, write_files

if TYPE_CHECKING:
    from pathlib import Path

AT_ONCE = HubRetryPolicy(initial_delay_s=0, stall_s=5)
REMOTE = Source(repository=REPOSITORY)


def test_a_repository(hub: Hub) -> None:
    resolved = resolve_source(REMOTE, endpoint=hub.endpoint)
    commit = hub.repositories[REPOSITORY].branches["main"]
    assert resolved.source == Source(repository=REPOSITORY, revision=commit)
    found = {name: record.sha256 for name, record in resolved.files.items()}
    assert found == {name: hashlib.sha256(data).hexdigest() for name, data in needed().items()}
    assert {name: record.size for name, record in resolved.files.items()} == {
        name: len(data) for name, data in needed().items()
    }


def test_no_weights_are_downloaded(hub: Hub) -> None:
    resolve_source(REMOTE, endpoint=hub.endpoint)
    assert not hub.asked_for("*.safetensors")
    assert not hub.asked_for("*README*")


def test_folder_and_repository_have_one_digest(hub: Hub, tmp_path: Path) -> None:
    write_files(tmp_path, checkpoint())
    here = resolve_source(Source(path=str(tmp_path)))
    there = resolve_source(REMOTE, endpoint=hub.endpoint)
    assert (here.digest, here.files) == (there.digest, there.files)


def test_the_pinned_commit_stays_what_it_was(hub: Hub) -> None:
    before = resolve_source(REMOTE, endpoint=hub.endpoint)
    hub.publish(REPOSITORY, checkpoint() | {"config.json": b'{"changed": 1}'})
    assert resolve_source(REMOTE, endpoint=hub.endpoint).digest != before.digest
    assert resolve_source(before.source, endpoint=hub.endpoint) == before


@pytest.mark.parametrize("branch", ["v1.0", "feature/one", "refs/pr/7"])
def test_other_revisions(hub: Hub, branch: str) -> None:
    commit = hub.publish(REPOSITORY, checkpoint() | {"config.json": b"{}"}, branch=branch)
    source = Source(repository=REPOSITORY, revision=branch)
    assert resolve_source(source, endpoint=hub.endpoint).source.revision == commit


def test_json_both_ways(hub: Hub) -> None:
    resolved = resolve_source(REMOTE, endpoint=hub.endpoint)
    assert ResolvedSource.from_json(resolved.to_json()) == resolved
    with pytest.raises(InvalidSpec, match="does not follow"):
        ResolvedSource.from_json(resolved.to_json() | {"digest": "0" * 20})
    with pytest.raises(InvalidSpec, match="commit"):
        ResolvedSource(source=REMOTE, digest=resolved.digest, files=resolved.files)


def test_licence_before_any_request(hub: Hub) -> None:
    repository = "llm-jp/llm-jp-3-172b-instruct3"
    hub.publish(repository, checkpoint())
    with pytest.raises(LicenceNotAccepted):
        resolve_source(Source(repository=repository), endpoint=hub.endpoint)
    assert not hub.requests
    resolve_source(
        Source(repository=repository),
        endpoint=hub.endpoint,
        accepted_licence="llm-jp-3-172b-instruct3-tou",
    )


@pytest.mark.parametrize(
    ("access", "token", "granted", "error", "words"),
    [
        ("public", "hf_wrong", True, BadToken, "does not accept the token"),
        ("private", None, True, BadToken, "HF_TOKEN"),
        ("gated", None, True, GatedRepository, "ask for access on"),
        ("gated", "hf_right", False, GatedRepository, "no access yet"),
    ],
)
def test_access(
    access: str, token: str | None, granted: bool, error: type[BuilderError], words: str
) -> None:
    with Hub(granted=granted) as hub:
        hub.publish(REPOSITORY, checkpoint(), access=access)  # type: ignore[arg-type]
        with pytest.raises(error, match=words) as caught:
            resolve_source(REMOTE, endpoint=hub.endpoint, token=token)
        assert caught.value.exit_code == 5
        if error is GatedRepository:
            assert f"{hub.endpoint}/{REPOSITORY}" in str(caught.value)


@pytest.mark.parametrize("access", ["public", "private", "gated"])
def test_the_right_token_opens_everything(access: str) -> None:
    with Hub() as hub:
        hub.publish(REPOSITORY, checkpoint(), access=access)  # type: ignore[arg-type]
        assert resolve_source(REMOTE, endpoint=hub.endpoint, token="hf_right").files


def test_the_users_own_token_is_found(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_right")
    resolve_source(REMOTE, endpoint=hub.endpoint)
    assert {request.token for request in hub.requests} == {"hf_right"}


def test_no_token_is_sent_where_there_is_none(hub: Hub) -> None:
    resolve_source(REMOTE, endpoint=hub.endpoint)
    assert {request.token for request in hub.requests} == {None}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Source(repository="llm-jp/none"), "no such repository"),
        (Source(repository=REPOSITORY, revision="v9"), "no revision 'v9'"),
        (Source(repository=REPOSITORY, revision="0" * 40), "no revision '0000"),
    ],
)
def test_not_there(hub: Hub, source: Source, words: str) -> None:
    with pytest.raises(MissingRepository, match=words) as caught:
        resolve_source(source, endpoint=hub.endpoint, token="hf_right")
    assert caught.value.exit_code == 3


def test_endpoint_of_the_environment(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.endpoint}/")
    assert resolve_source(REMOTE).source.repository == REPOSITORY


@pytest.mark.parametrize("endpoint", ["hub", "ftp://hub", "https://me:pass@hub", "https://a b"])
def test_endpoints_that_are_none(endpoint: str) -> None:
    with pytest.raises(InvalidSpec, match="endpoint") as caught:
        resolve_source(REMOTE, endpoint=endpoint)
    assert "pass" not in str(caught.value).removesuffix("or password")


@pytest.mark.parametrize("token", ["hf_a b", "hf_x\r\nX-Evil: 1", "hf_あ"])
def test_tokens_that_cannot_be_sent_are_not_quoted(token: str) -> None:
    with pytest.raises(BadToken) as caught:
        resolve_source(REMOTE, token=token)
    assert token not in str(caught.value)


def test_the_token_is_not_in_representations() -> None:
    assert "hf_secret" not in repr(Client(token="hf_secret"))


def test_token_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("  hf_abc\n")
    assert read_token(file) == "hf_abc"
    file.write_text("two words")
    with pytest.raises(BadToken, match="token") as caught:
        read_token(file)
    assert "two words" not in str(caught.value)
    with pytest.raises(MissingFile):
        read_token(tmp_path / "none")


@pytest.mark.parametrize("match", ["/api/*", "*/config.json"])
def test_a_busy_hub_is_waited_for(hub: Hub, match: str) -> None:
    hub.fail(Status(429, {"Retry-After": "0"}), match, times=2)
    hub.fail(Status(503), match, times=2)
    hub.fail(Cut(3), "*/config.json", times=1)
    resolve_repository(Client(endpoint=hub.endpoint, retry_policy=AT_ONCE), REMOTE)
    assert len(hub.asked_for(match)) >= 5


def test_a_hub_that_asks_for_too_long_a_wait(hub: Hub) -> None:
    hub.fail(Status(429, {"Retry-After": "86400"}), "/api/*")
    with pytest.raises(HubFailed, match="86400 s") as caught:
        resolve_source(REMOTE, endpoint=hub.endpoint)
    assert caught.value.retryable
    assert len(hub.requests) == 1


def test_a_small_file_that_arrives_damaged(hub: Hub) -> None:
    hub.fail(Corrupt(1), "*/config.json")
    with pytest.raises(CorruptDownload, match=r"config\.json"):
        resolve_source(REMOTE, endpoint=hub.endpoint)


def test_nobody_answers() -> None:
    with Hub() as hub:
        gone = hub.endpoint
    retry_policy = HubRetryPolicy(max_attempts=2, initial_delay_s=0, stall_s=5)
    with pytest.raises(HubFailed, match="given up after 2 attempts"):
        resolve_repository(Client(endpoint=gone, retry_policy=retry_policy), REMOTE)


def test_something_else_answers(hub: Hub) -> None:
    hub.fail(Status(200, {"Content-Type": "text/html"}), "/api/*", times=9)
    with pytest.raises(HubFailed):
        resolve_repository(
            Client(endpoint=hub.endpoint, retry_policy=HubRetryPolicy(max_attempts=1)), REMOTE
        )


def test_offline_mode_is_reported(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is imported
    program = (
        "import sys\n"
        "from llmjp_builder.sources.pinning import parse_source, resolve_source\n"
        "resolve_source(parse_source(sys.argv[1]), endpoint=sys.argv[2])\n"
    )
    command = [sys.executable, "-c", program, REPOSITORY, hub.endpoint]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "HubFailed: HF_HUB_OFFLINE forbids" in done.stderr
    assert not hub.requests


def test_folder_sums_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmjp_builder.store.hashing._SETTLED_NS", -1)
    folder, cache = tmp_path / "m", tmp_path / "hashes.json"
    write_files(folder, checkpoint())
    first = resolve_source(Source(path=str(folder)), hash_cache=HashCache(cache))
    monkeypatch.setattr("llmjp_builder.store.hashing.compute_sha256", None)
    assert resolve_source(Source(path=str(folder)), hash_cache=HashCache(cache)) == first


def test_folder_progress(tmp_path: Path) -> None:
    write_files(tmp_path, checkpoint())
    seen: list[Progress] = []
    resolve_source(Source(path=str(tmp_path)), on_progress=seen.append)
    assert seen[-1].percent == 100
    assert seen[-1].bytes_total == sum(len(data) for data in needed().values())


def test_a_folder_that_lacks_a_shard(tmp_path: Path) -> None:
    write_files(tmp_path, checkpoint())
    (tmp_path / SHARDS[1]).unlink()
    with pytest.raises(MissingFile, match=SHARDS[1]):
        resolve_source(Source(path=str(tmp_path)))


def test_what_a_person_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_source("llm-jp/x", "v1") == Source(repository="llm-jp/x", revision="v1")
    (tmp_path / "llm-jp" / "x").mkdir(parents=True)
    assert parse_source("llm-jp/x") == Source(path="llm-jp/x")
    assert parse_source(str(tmp_path)) == Source(path=str(tmp_path))
    with pytest.raises(InvalidSpec, match="revision"):
        parse_source("llm-jp/x", "v1")


@pytest.mark.parametrize("text", ["./none", "none", "/none/at/all", "a/b/c", "-x/y", "../x"])
def test_neither_folder_nor_repository(text: str) -> None:
    with pytest.raises(MissingFile, match="OWNER/NAME"):
        parse_source(text)


def test_a_repository_name_from_json_is_checked(hub: Hub) -> None:
    with pytest.raises(InvalidSpec, match="OWNER/NAME"):
        resolve_source(Source(repository="../../etc"), endpoint=hub.endpoint)
    assert not hub.requests
