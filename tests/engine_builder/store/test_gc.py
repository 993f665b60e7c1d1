"""Garbage collection: by policy, leases and locks, and around kills."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_builder.contracts.spec import BuildSpec, Source
from llmjp_builder.pipeline import build
from llmjp_builder.store.gc import (
    CollectionPolicy,
    CollectionResult,
    ItemKind,
    StoreItem,
    collect_garbage,
    list_items,
)
from llmjp_builder.store.leases import (
    SKEW_S,
    get_lease_lock,
    read_leases,
    record_lease,
    release_lease,
)
from llmjp_builder.store.locks import locked
from llmjp_builder.store.store import Store, check_artefact
from tests.engine_builder.checkpoints import tree

NOW = 2_000_000_000.0
DAY = 86_400.0
EVERYTHING = CollectionPolicy(keep_bytes=0)


def put(path: Path, age: float, size: int = 100) -> Path:
    """A file of that age, and the folders that lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    for place in (path, path.parent):
        os.utime(place, (NOW - age, NOW - age))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """One of everything, each 100 bytes, an artefact `a` younger than `b`."""
    root = tmp_path / "store"
    put(root / "artefacts" / "b" / "manifest.json", 9 * DAY)
    put(root / "artefacts" / "a" / "manifest.json", 8 * DAY)
    put(root / "sources" / "d1" / "source.json", 7 * DAY)
    put(root / "sources" / "d2.partial" / "model.safetensors.partial", 6 * DAY)
    put(root / "calibrations" / "c1" / "amax.json", 5 * DAY)
    put(root / "timing-caches" / "H100.cache", 4 * DAY)
    put(root / "logs" / "a.compile.log", 3 * DAY)
    return root


NAMES = [
    "b",
    "a",
    "source-d1",
    "download-d2",
    "calibration-c1",
    "timing-cache-H100.cache",
    "log-a.compile.log",
]
"""Names of the items in `store`, the least recently used first."""


def names(items: tuple[StoreItem, ...] | list[StoreItem]) -> list[str]:
    return [item.name for item in items]


def test_everything_that_takes_room_is_found(store: Path) -> None:
    items = list_items(store, NOW)
    assert sorted(names(items)) == sorted(NAMES)
    assert {item.kind for item in items} == set(ItemKind) - {ItemKind.WORK}
    assert {item.size for item in items} == {100}
    ages = {item.name: (NOW - item.last_use) / DAY for item in items}
    assert [round(ages[name]) for name in NAMES] == [9, 8, 7, 6, 5, 4, 3]


@pytest.mark.parametrize(
    ("policy", "removed"),
    [
        (CollectionPolicy(), []),
        (CollectionPolicy(keep_bytes=700), []),
        (CollectionPolicy(keep_bytes=699), NAMES[:1]),
        (CollectionPolicy(keep_bytes=450), NAMES[:3]),
        (CollectionPolicy(keep_bytes=0), NAMES),
        (CollectionPolicy(older_than_s=7.5 * DAY), NAMES[:2]),
        (CollectionPolicy(older_than_s=7.5 * DAY, keep_bytes=450), NAMES[:3]),
        (CollectionPolicy(older_than_s=7.5 * DAY, keep_bytes=650), NAMES[:2]),
        (CollectionPolicy(keep_bytes=600, keep={"b"}), ["a"]),
    ],
)
def test_policies(policy: CollectionPolicy, removed: list[str], store: Path) -> None:
    before = tree(store)
    plan = collect_garbage(store, policy, dry_run=True, now=NOW)
    assert names(plan.removed) == removed
    assert tree(store) == before
    done = collect_garbage(store, policy, now=NOW)
    assert done == plan
    assert sorted(names(list_items(store, NOW))) == sorted(set(NAMES) - set(removed))
    assert done.bytes_left == 100 * (len(NAMES) - len(removed))
    assert list((store / "trash").iterdir()) == []


@given(
    ages=st.lists(st.floats(0, 100), max_size=8),
    sizes=st.lists(st.integers(0, 50), min_size=8, max_size=8),
    keep=st.integers(0, 200),
)
def test_a_limit_is_kept_with_no_more_than_necessary(
    ages: list[float], sizes: list[int], keep: int
) -> None:
    one = StoreItem(kind=ItemKind.LOG, name="", path=Path(), size=0, last_use=0)
    items = [
        replace(one, name=str(i), size=size, last_use=NOW - age)
        for i, (age, size) in enumerate(zip(ages, sizes, strict=False))
    ]
    total = sum(item.size for item in items)
    policy = CollectionPolicy(keep_bytes=keep)
    for item in sorted(items, key=lambda item: item.last_use):
        if not policy.selects(item, total, NOW):
            assert total <= keep
            break
        total -= item.size
    assert total <= max(keep, 0)


def test_a_use_on_record_keeps_an_artefact_and_is_its_last(store: Path) -> None:
    record_lease(store, "b", "ns/pod", now=NOW - 5 * DAY)
    release_lease(store, "a", "ns/gone", now=NOW - 1 * DAY)
    done = collect_garbage(store, EVERYTHING, now=NOW)
    assert (names(done.in_use), done.in_use[0].users) == (["b"], ("ns/pod",))
    assert (store / "artefacts" / "b" / "manifest.json").exists()
    assert names(done.removed)[-1] == "a"
    assert (done.bytes_left, [use.user for use in read_leases(store, "b")]) == (100, ["ns/pod"])
    assert not (store / "uses" / "a").exists()


def test_an_expired_use_keeps_nothing(store: Path) -> None:
    record_lease(store, "b", "ns/pod", NOW - SKEW_S, now=NOW - DAY)
    assert "b" in names(collect_garbage(store, EVERYTHING, now=NOW).removed)


@pytest.mark.parametrize(
    ("lock", "kept"),
    [
        ("b", {"b"}),
        ("b.use", {"b"}),
        ("a", {"a", "log-a.compile.log"}),
        ("source-d1", {"source-d1"}),
        ("source-d1.use", {"source-d1"}),
        ("source-d2", {"download-d2"}),
        ("calibration-c1", {"calibration-c1"}),
    ],
)
def test_what_somebody_holds_is_kept(lock: str, kept: set[str], store: Path) -> None:
    (store / "locks").mkdir()
    with locked(store / "locks" / lock, on_wait=None, shared=lock.endswith(".use")):
        plan = collect_garbage(store, EVERYTHING, dry_run=True, now=NOW)
        done = collect_garbage(store, EVERYTHING, now=NOW)
    assert set(names(done.in_use)) == set(names(plan.in_use)) == kept
    assert set(names(list_items(store, NOW))) == kept


def test_a_use_that_is_recorded_at_the_last_moment_counts(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list_items(store, NOW)
    record_lease(store, "b", "ns/pod", now=NOW)
    monkeypatch.setattr("llmjp_builder.store.gc.list_items", lambda *_: found)
    assert names(collect_garbage(store, EVERYTHING, now=NOW).in_use) == ["b"]


def test_rubbish_goes_whatever_the_policy(store: Path) -> None:
    rubbish = [
        put(store / "work" / "k1" / "rank0.safetensors", 0),
        put(store / "work" / "k1.compile" / "x", 0),
        put(store / "trash" / "half-b" / "x", 0),
        put(store / "locks" / "k2", 0),
        put(store / "locks" / "k2.use", 0),
        put(store / "uses" / "gone" / "x.json", 0),
        put(store / "cache" / ".hashes.json.7.partial", 2 * DAY),
        put(store / ".progress.json.partial", 2 * DAY),
    ]
    (store / "uses" / "gone" / "x.json").write_text('{"user": "x", "at": 1.0, "expires": 2.0}')
    kept = put(store / "cache" / ".hashes.json.8.partial", 0.5 * DAY)
    assert names(collect_garbage(store, CollectionPolicy(), dry_run=True, now=NOW).removed) == []
    assert all(path.exists() for path in rubbish)
    done = collect_garbage(store, CollectionPolicy(), now=NOW)
    assert (done.removed, done.bytes_left) == ((), 700)
    assert [path for path in rubbish if path.exists()] == []
    assert kept.exists()
    assert [path.name for path in (store / "locks").iterdir()] == ["gc"]


def test_work_of_a_running_build_is_kept(store: Path) -> None:
    path = put(store / "work" / "k1" / "rank0.safetensors", 0)
    with Store(store).building("k1", lambda: None):
        put(path, 0)
        collect_garbage(store, EVERYTHING, now=NOW)
        assert path.exists()


def test_finished_work_goes_by_the_policy(store: Path) -> None:
    work = put(store / "work" / "k1" / "rank0.safetensors", 0).parent
    Store(store).finish(work)
    os.utime(work, (NOW - 20 * DAY, NOW - 20 * DAY))
    os.utime(work / "rank0.safetensors", (NOW - 20 * DAY, NOW - 20 * DAY))
    assert names(collect_garbage(store, CollectionPolicy(), now=NOW).removed) == []
    assert names(collect_garbage(store, CollectionPolicy(keep_bytes=700), now=NOW).removed) == [
        "work-k1"
    ]
    assert list((store / "work").iterdir()) == []


def test_an_empty_place_is_an_empty_store(tmp_path: Path) -> None:
    empty = CollectionResult(removed=(), in_use=(), bytes_left=0)
    assert collect_garbage(tmp_path / "nothing", EVERYTHING, now=NOW) == empty
    assert list(tmp_path.iterdir()) == []


CHILD = """
import os, signal, sys
from pathlib import Path
from llmjp_builder.store.gc import CollectionPolicy, collect_garbage
count, n = 0, int(sys.argv[2])
def hook(event, arguments):
    global count
    if event in {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}:
        count += 1
        if count == n:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
collect_garbage(Path(sys.argv[1]), CollectionPolicy(keep_bytes=0), now=4e9)
print(count)
"""


@pytest.mark.slow
def test_a_killed_collection_leaves_whole_artefacts_or_none(source: Path, tmp_path: Path) -> None:
    def died(n: int) -> str:
        command = [sys.executable, "-c", CHILD, str(tmp_path / f"{n}"), str(n)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def filled(n: int) -> Path:
        root = tmp_path / f"{n}"
        for tp in (1, 2):
            build(BuildSpec(source=Source(path=str(source)), tensor_parallel=tp), store=root)
        return root

    filled(0)
    total = int(died(0))
    for n in range(1, total + 1, 3):
        root = filled(n)
        assert died(n) == ""
        for key in Store(root).list_keys():
            check_artefact(Store(root).get_path(key))
        assert names(collect_garbage(root, CollectionPolicy(keep_bytes=0), now=4e9).in_use) == []
        left = [path for path in tree(root) if not path.startswith(("cache/", "locks/gc"))]
        assert left == []


def test_builders_and_collectors_at_once(source: Path, tmp_path: Path) -> None:
    """Whatever a build returns is there and whole: it keeps what it has made for a while."""
    root, stop = tmp_path / "store", threading.Event()
    errors: list[BaseException] = []

    def collect_all_the_time() -> None:
        try:
            while not stop.is_set():
                collect_garbage(root, EVERYTHING, now=time.time())
        except BaseException as exc:  # noqa: BLE001 - shown by the test
            errors.append(exc)

    thread = threading.Thread(target=collect_all_the_time)
    thread.start()
    try:
        for tp in (1, 2, 4, 1, 2, 4):
            spec = BuildSpec(source=Source(path=str(source)), tensor_parallel=tp)
            check_artefact(build(spec, store=root).path)
            for key in Store(root).list_keys():
                release_lease(root, key, "llmjp build", now=0.0)
    finally:
        stop.set()
        thread.join()
    assert errors == []


def test_the_lock_of_use_is_where_the_builder_holds_it(tmp_path: Path) -> None:
    with Store(tmp_path).in_use("k"), locked(get_lease_lock(tmp_path, "k"), on_wait=None) as alone:
        assert not alone
