"""Downloads into a store, from a hub that misbehaves."""

from __future__ import annotations

import logging
import shutil
import threading
import traceback
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import huggingface_hub
import pytest

from llmjp_builder.contracts.errors import (
    BadArtefact,
    BadToken,
    BuilderError,
    CorruptDownload,
    GatedRepository,
    HubFailed,
    LicenceNotAccepted,
    NotEnoughDisk,
    UnsupportedRequest,
)
from llmjp_builder.contracts.spec import Progress, Source
from llmjp_builder.sources.fetch import FetchedSource, fetch_source
from llmjp_builder.sources.retries import HubRetryPolicy
from tests.support.hub import Corrupt, Cut, Hang, Hub, Status, WholeAlways

from .conftest import REPOSITORY, SHARDS, checkpoint, needed, write_files

if TYPE_CHECKING:
    from pathlib import Path

REMOTE = Source(repository=REPOSITORY)
AT_ONCE = HubRetryPolicy(max_attempts=3, initial_delay_s=0, stall_s=5)
FIRST = f"*/{SHARDS[0]}"
PIECE = 1 << 14
"""Whatever HTTP library there is, so much of a body is kept when it is cut."""


def _fetch(hub: Hub, store: Path, source: Source = REMOTE, **options: Any) -> FetchedSource:
    return fetch_source(
        source, store=store, endpoint=hub.endpoint, **{"retry_policy": AT_ONCE, **options}
    )


def _assert_whole(fetched: FetchedSource, store: Path) -> None:
    """The store holds exactly what is needed, under the digest, and nothing on its way."""
    assert fetched.path == store / "sources" / fetched.resolved.digest
    found = {path.name: path.read_bytes() for path in fetched.path.iterdir()}
    assert found.pop("source.json")
    assert found == needed()
    assert [path.name for path in (store / "sources").iterdir()] == [fetched.path.name]


def _ranges(hub: Hub, match: str = FIRST) -> list[str | None]:
    return [request.range for request in hub.asked_for(match)]


def test_download(hub: Hub, tmp_path: Path) -> None:
    seen: list[Progress] = []
    fetched = _fetch(hub, tmp_path, on_progress=seen.append)
    _assert_whole(fetched, tmp_path)
    assert {progress.step for progress in seen} == {"fetch"}
    assert seen[-1].percent == 100
    assert seen[-1].bytes_total == sum(len(data) for data in needed().values())
    assert fetched.resolved.source.revision == hub.repositories[REPOSITORY].branches["main"]


def test_only_needed_files_are_requested(hub: Hub, tmp_path: Path) -> None:
    _fetch(hub, tmp_path)
    asked = {request.path.rpartition("/")[2] for request in hub.asked_for("*/resolve/*")}
    assert asked == set(needed())


def test_what_config_json_does_not_allow_is_refused_before_weights(
    hub: Hub, tmp_path: Path
) -> None:
    def refuse(folder: Path) -> None:
        assert (folder / "config.json").read_bytes() == checkpoint()["config.json"]
        raise UnsupportedRequest("not this one")

    with pytest.raises(UnsupportedRequest, match="not this one"):
        _fetch(hub, tmp_path, accept=refuse)
    assert not hub.asked_for("*.safetensors")
    _assert_whole(_fetch(hub, tmp_path), tmp_path)


def test_a_second_time_nothing_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    first = _fetch(hub, tmp_path)
    assert _fetch(hub, tmp_path) == first
    assert len(hub.asked_for("*.safetensors")) == len(SHARDS)


def test_a_commit_in_the_store_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    first = _fetch(hub, tmp_path)
    hub.requests.clear()
    again = _fetch(hub, tmp_path, first.resolved.source)
    assert again == first
    assert not hub.requests


def test_a_folder_is_used_where_it_is(tmp_path: Path) -> None:
    folder, store = tmp_path / "m", tmp_path / "s"
    write_files(folder, checkpoint())
    fetched = fetch_source(Source(path=str(folder)), store=store)
    assert fetched.path == folder
    assert set(fetched.resolved.files) == set(needed())
    assert not (store / "sources").exists()


def test_licence_before_the_first_byte(hub: Hub, tmp_path: Path) -> None:
    repository = "llm-jp/llm-jp-3-172b"
    hub.publish(repository, checkpoint())
    with pytest.raises(LicenceNotAccepted):
        _fetch(hub, tmp_path, Source(repository=repository))
    assert not hub.requests
    assert not list(tmp_path.iterdir())
    _fetch(hub, tmp_path, Source(repository=repository), accepted_licence="llm-jp-3-172b-tou")


def test_licence_also_for_what_is_in_the_store(hub: Hub, tmp_path: Path) -> None:
    repository = "llm-jp/llm-jp-3-172b"
    hub.publish(repository, checkpoint())
    accepted = {"accepted_licence": "llm-jp-3-172b-tou"}
    first = _fetch(hub, tmp_path, Source(repository=repository), **accepted)
    with pytest.raises(LicenceNotAccepted):
        _fetch(hub, tmp_path, first.resolved.source)


def test_full_disk_is_seen_before(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(total=10**9, used=0, free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NotEnoughDisk) as caught:
        _fetch(hub, tmp_path)
    total = sum(len(data) for data in needed().values())
    assert caught.value.exit_code == 4
    assert f"{total:,}" in str(caught.value)
    assert "100,000" in str(caught.value)
    assert not hub.asked_for("*.safetensors")


@pytest.mark.parametrize("redirect", [False, True])
def test_cut_connections_are_resumed(tmp_path: Path, redirect: bool) -> None:
    with Hub(redirect=redirect) as hub:
        hub.publish(REPOSITORY, checkpoint())
        match = "/storage/*" if redirect else "*.safetensors"
        hub.fail(Cut(2 * PIECE), match, times=3)
        _assert_whole(_fetch(hub, tmp_path), tmp_path)
        resumed = [text for text in _ranges(hub, match) if text]
        assert len(resumed) == 3
        assert all(int(text.removeprefix("bytes=").removesuffix("-")) > 0 for text in resumed)


def test_a_hub_without_ranges_starts_over(hub: Hub, tmp_path: Path) -> None:
    hub.fail(Cut(100_000), FIRST)
    hub.fail(WholeAlways(), FIRST)
    seen: list[Progress] = []
    _assert_whole(_fetch(hub, tmp_path, on_progress=seen.append), tmp_path)
    assert all(0 <= progress.bytes_done <= progress.bytes_total for progress in seen)


def test_a_busy_hub_is_waited_for(hub: Hub, tmp_path: Path) -> None:
    hub.fail(Status(429, {"Retry-After": "0"}), FIRST, times=1)
    hub.fail(Status(500), FIRST, times=1)
    _assert_whole(_fetch(hub, tmp_path), tmp_path)
    assert len(_ranges(hub)) == 3


def test_a_hub_that_stays_away_leaves_what_arrived(hub: Hub, tmp_path: Path) -> None:
    hub.fail(Cut(3 * PIECE), FIRST)
    hub.fail(Status(502), FIRST, times=3)
    with pytest.raises(HubFailed, match=SHARDS[0]) as caught:
        _fetch(hub, tmp_path)
    assert caught.value.retryable
    [work] = (tmp_path / "sources").iterdir()
    assert work.name.endswith(".partial")
    assert (work / f"{SHARDS[0]}.partial").stat().st_size == 3 * PIECE
    _assert_whole(_fetch(hub, tmp_path), tmp_path)
    assert _ranges(hub)[-1] == f"bytes={3 * PIECE}-"


def test_a_hub_that_falls_silent(hub: Hub, tmp_path: Path) -> None:
    release = threading.Event()
    hub.fail(Hang(4 * PIECE, release), FIRST)
    seen: list[Progress] = []
    retry_policy = HubRetryPolicy(initial_delay_s=0, stall_s=0.4)
    try:
        fetched = _fetch(hub, tmp_path, retry_policy=retry_policy, on_progress=seen.append)
    finally:
        release.set()
    _assert_whole(fetched, tmp_path)
    assert _ranges(hub)[-1] == f"bytes={4 * PIECE}-"
    between = [progress for progress in seen if 0 < progress.percent < 100]
    assert between
    assert all(progress.bytes_per_second > 0 for progress in between)
    assert all(progress.eta_seconds is not None for progress in between)


def test_a_hub_that_stays_silent(hub: Hub, tmp_path: Path) -> None:
    release = threading.Event()
    hub.fail(Hang(0, release), FIRST, times=9)
    retry_policy = HubRetryPolicy(max_attempts=2, initial_delay_s=0, stall_s=0.2)
    try:
        with pytest.raises(HubFailed, match="given up after 2 attempts"):
            _fetch(hub, tmp_path, retry_policy=retry_policy)
    finally:
        release.set()


def test_corrupt_bytes_are_refused_and_removed(hub: Hub, tmp_path: Path) -> None:
    hub.fail(Corrupt(1234), FIRST)
    with pytest.raises(CorruptDownload) as caught:
        _fetch(hub, tmp_path)
    message = str(caught.value)
    assert SHARDS[0] in message
    assert message.count("sha256") == 1
    assert len([word for word in message.replace(";", "").split() if len(word) >= 64]) == 2
    [work] = (tmp_path / "sources").iterdir()
    assert not (work / f"{SHARDS[0]}.partial").exists()
    assert not (work / SHARDS[0]).exists()
    _assert_whole(_fetch(hub, tmp_path), tmp_path)
    assert _ranges(hub) == [None, None]


def test_a_damaged_beginning_is_downloaded_again(hub: Hub, tmp_path: Path) -> None:
    hub.fail(Cut(3 * PIECE), FIRST)
    hub.fail(Status(502), FIRST, times=3)
    with pytest.raises(HubFailed):
        _fetch(hub, tmp_path)
    [work] = (tmp_path / "sources").iterdir()
    (work / f"{SHARDS[0]}.partial").write_bytes(bytes(3 * PIECE))
    seen: list[Progress] = []
    _assert_whole(_fetch(hub, tmp_path, on_progress=seen.append), tmp_path)
    assert _ranges(hub)[-2:] == [f"bytes={3 * PIECE}-", None]
    assert all(0 <= progress.bytes_done <= progress.bytes_total for progress in seen)


@pytest.mark.parametrize("length", [200_000, 200_001, 999_999])
def test_what_is_long_enough_is_checked(hub: Hub, tmp_path: Path, length: int) -> None:
    digest = _fetch(hub, tmp_path).resolved.digest
    place = tmp_path / "sources" / digest
    work = place.with_name(f"{digest}.partial")
    place.rename(work)
    (work / SHARDS[0]).unlink()
    right = checkpoint()[SHARDS[0]]
    (work / f"{SHARDS[0]}.partial").write_bytes(right + bytes(length - len(right)))
    (work / "source.json").unlink()
    _assert_whole(_fetch(hub, tmp_path), tmp_path)
    assert len(_ranges(hub)) == (1 if length == len(right) else 2)


def test_two_at_once(hub: Hub, tmp_path: Path) -> None:
    release, waiting = threading.Event(), threading.Event()
    hub.fail(Hang(1000, release), FIRST)
    results: list[FetchedSource] = []

    def second(progress: Progress) -> None:
        if "another process" in progress.message:
            waiting.set()

    def run(**options: Any) -> None:
        results.append(_fetch(hub, tmp_path, **options))

    retry_policy = HubRetryPolicy(stall_s=60, initial_delay_s=0)
    one = threading.Thread(target=run, kwargs={"retry_policy": retry_policy})
    one.start()
    while not hub.asked_for(FIRST):
        assert one.is_alive()
    two = threading.Thread(target=run, kwargs={"retry_policy": retry_policy, "on_progress": second})
    two.start()
    assert waiting.wait(30)
    release.set()
    one.join(30)
    two.join(30)
    assert len(results) == 2
    assert results[0] == results[1]
    _assert_whole(results[0], tmp_path)
    assert len(hub.asked_for(f"*/{SHARDS[1]}")) == 1


@pytest.mark.parametrize("damage", ["missing", "short", "manifest"])
def test_damage_in_the_store_is_reported(hub: Hub, tmp_path: Path, damage: str) -> None:
    path = _fetch(hub, tmp_path).path
    match damage:
        case "missing":
            (path / SHARDS[0]).unlink()
        case "short":
            (path / SHARDS[0]).write_bytes(b"")
        case _:
            (path / "source.json").write_text("{}")
    with pytest.raises(BadArtefact, match="remove the folder"):
        _fetch(hub, tmp_path)
    assert path.exists()


def test_large_files_come_from_storage_without_the_token(tmp_path: Path) -> None:
    with Hub(redirect=True) as hub:
        hub.publish(REPOSITORY, checkpoint(), access="private")
        _assert_whole(_fetch(hub, tmp_path, token="hf_right"), tmp_path)
        stored = hub.asked_for("/storage/*")
        assert len(stored) == len(SHARDS)
        assert {request.token for request in stored} == {None}
        assert {request.token for request in hub.asked_for("*/resolve/*")} == {"hf_right"}


def test_a_storage_host_that_refuses_is_retried(tmp_path: Path) -> None:
    with Hub(redirect=True) as hub:
        hub.publish(REPOSITORY, checkpoint())
        hub.fail(Status(403), "/storage/*")
        _assert_whole(_fetch(hub, tmp_path), tmp_path)


def test_signatures_of_the_storage_host_are_not_shown(tmp_path: Path) -> None:
    with Hub(redirect=True) as hub:
        hub.publish(REPOSITORY, checkpoint())
        hub.fail(Cut(0), "/storage/*", times=99)
        with pytest.raises(HubFailed) as caught:
            _fetch(hub, tmp_path)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("known", "granted", "fault", "error"),
    [
        ("hf_other", True, None, BadToken),
        ("hf_verysecret", False, None, GatedRepository),
        ("hf_verysecret", True, Status(429, {"Retry-After": "9999"}), HubFailed),
        ("hf_verysecret", True, Cut(0), HubFailed),
        ("hf_verysecret", True, Corrupt(), CorruptDownload),
        ("hf_verysecret", True, Status(401), BadToken),
        ("hf_verysecret", True, Status(403), BuilderError),
    ],
)
def test_the_token_is_nowhere(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    known: str,
    granted: bool,
    fault: Any,
    error: type[BuilderError],
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_verysecret")
    with Hub(token=known, granted=granted) as hub:
        hub.publish(REPOSITORY, checkpoint(), access="gated")
        if fault:
            hub.fail(fault, "*.safetensors", times=99)
        with caplog.at_level(logging.DEBUG), pytest.raises(error) as caught:
            _fetch(hub, tmp_path, retry_policy=HubRetryPolicy(max_attempts=2, initial_delay_s=0))
    shown = [caplog.text, *capfd.readouterr()]
    shown += traceback.format_exception(caught.value)
    shown += [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in shown if "verysecret" in text]


def test_a_store_that_cannot_be_written(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(BuilderError) as caught:
        _fetch(hub, tmp_path / "store")
    assert caught.value.exit_code in {3, 5}
