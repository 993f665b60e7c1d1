"""Who uses what: records, their end, and the locks around them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import AccessDenied, InvalidSpec, MissingFile
from llmjp_builder.store.leases import (
    SKEW_S,
    Lease,
    find_label,
    get_lease_lock,
    read_leases,
    record_lease,
    release_lease,
    remove_ended_leases,
    renewed_lease,
)
from llmjp_builder.store.locks import locked

KEY = "0123456789abcdef0123"
NOW = 1_000_000.0
PRINTABLE = st.characters(min_codepoint=32, max_codepoint=0x2FF).filter(str.isprintable)


def current(store: Path, now: float) -> list[str]:
    return [use.user for use in read_leases(store, KEY) if use.is_current(now)]


def test_a_use_holds_until_it_expires_or_is_released(tmp_path: Path) -> None:
    record_lease(tmp_path, KEY, "ns/pod-a", now=NOW)
    record_lease(tmp_path, KEY, "ns/pod-b", NOW + 60, now=NOW)
    assert current(tmp_path, NOW + 60 + SKEW_S - 1) == ["ns/pod-a", "ns/pod-b"]
    assert current(tmp_path, NOW + 60 + SKEW_S) == ["ns/pod-a"]
    release_lease(tmp_path, KEY, "ns/pod-a", now=NOW + 99)
    assert current(tmp_path, NOW + 99 + SKEW_S) == []
    assert max(use.at for use in read_leases(tmp_path, KEY)) == NOW + 99


@given(users=st.sets(st.text(PRINTABLE, min_size=1, max_size=20), max_size=6))
def test_any_name_of_a_user_comes_back(
    users: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = tmp_path_factory.mktemp("store")
    for user in users:
        record_lease(store, KEY, user, now=NOW)
    assert set(current(store, NOW)) == users


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "../x", "a" * 101, ".hidden"])
def test_names_that_nothing_has(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="nothing in a store has such a name"):
        record_lease(tmp_path, name, "pod")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("user", ["", "x" * 81, "a\nb", "\ud800", "語" * 30])
def test_users_without_a_name_to_record(user: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"^user "):
        record_lease(tmp_path, KEY, user)


def test_a_record_that_cannot_be_read_counts_as_a_use(tmp_path: Path) -> None:
    record_lease(tmp_path, KEY, "pod", NOW, now=NOW)
    (tmp_path / "uses" / KEY / "other.json").write_text("{")
    assert current(tmp_path, NOW + 10 * SKEW_S) == ["other"]


def test_of_uses_that_are_over_the_last_and_the_labelled_stay(tmp_path: Path) -> None:
    record_lease(tmp_path, KEY, "builder", NOW, now=NOW, label="llm-jp/x")
    for i in range(3):
        release_lease(tmp_path, KEY, f"pod{i}", now=NOW + i)
    record_lease(tmp_path, KEY, "lives", now=NOW - 9)
    remove_ended_leases(tmp_path, KEY, keep_last=True, now=NOW + 9 * SKEW_S)
    assert {use.user for use in read_leases(tmp_path, KEY)} == {"builder", "lives", "pod2"}
    assert find_label(tmp_path, KEY) == "llm-jp/x"
    remove_ended_leases(tmp_path, KEY, keep_last=False, now=NOW + 9 * SKEW_S)
    assert {use.user for use in read_leases(tmp_path, KEY)} == {"lives"}


def test_a_record_waits_for_whoever_removes(tmp_path: Path) -> None:
    record_lease(tmp_path, KEY, "first", now=NOW)
    writer = threading.Thread(target=record_lease, args=(tmp_path, KEY, "second"))
    with locked(get_lease_lock(tmp_path, KEY), on_wait=None) as alone:
        assert alone
        writer.start()
        writer.join(0.05)
        assert [use.user for use in read_leases(tmp_path, KEY)] == ["first"]
    writer.join()
    assert {use.user for use in read_leases(tmp_path, KEY)} == {"first", "second"}


class TestRenewed:
    @pytest.fixture
    def artefact(self, tmp_path: Path) -> Path:
        path = tmp_path / "artefacts" / KEY
        path.mkdir(parents=True)
        return path

    def test_while_the_block_runs_and_not_after(self, artefact: Path, tmp_path: Path) -> None:
        import time

        with renewed_lease(artefact, "me"):
            [during] = read_leases(tmp_path, KEY)
            assert during.is_current(time.time() + 1000)
        [after] = read_leases(tmp_path, KEY)
        assert not after.is_current(time.time())
        assert after.at >= during.at

    def test_it_is_renewed(self, artefact: Path, tmp_path: Path) -> None:
        def recorded() -> Lease:
            [use] = read_leases(tmp_path, KEY)
            return use

        with renewed_lease(artefact, "me", every_s=0.001):
            first = recorded()
            while recorded() == first:
                pass

    def test_an_artefact_that_is_gone(self, tmp_path: Path) -> None:
        with (
            pytest.raises(MissingFile, match="removed from the store"),
            renewed_lease(tmp_path / "artefacts" / KEY, "me"),
        ):
            pytest.fail("it was used")

    def test_outside_of_a_store_nothing_is_recorded(self, tmp_path: Path) -> None:
        with renewed_lease(tmp_path / "checkpoint", "me"):
            assert list(tmp_path.iterdir()) == []

    def test_a_store_that_cannot_be_written_is_somebody_elses_business(
        self, artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AccessDenied("read-only")

        monkeypatch.setattr("llmjp_builder.store.leases.record_lease", refuse)
        with renewed_lease(artefact, "me"):
            assert not (tmp_path / "uses").exists()
