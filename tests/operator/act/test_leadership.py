"""Who leads: the rules of the Lease, on a Lease in memory and a clock of the test's own."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from llmjp_operator.act.leadership import Election, lead
from llmjp_operator.errors import ApiRefused, ApiUnreachable
from llmjp_operator.settings import LeaderElection, Settings
from tests.operator.factories import SETTINGS
from tests.operator.model_bodies import Object

LEASE_S = 15.0


@dataclass
class FakeLeases:
    """One Lease, with versions as the API server counts them."""

    lease: Object | None = None
    version: int = 0
    failure: Exception | None = None
    """Raised by every call."""
    before_write: Callable[[], None] = lambda: None
    """Somebody else's write between a read and a write of ours."""
    writes: int = field(default=0)

    async def get(self, _kind: str, _namespace: str, _name: str) -> Object | None:
        if self.failure is not None:
            raise self.failure
        return copy.deepcopy(self.lease)

    async def create(self, made: Object) -> Object:
        self.before_write()
        if self.lease is not None:
            raise ApiRefused(409, "POST", "it is there")
        return self._store(made)

    async def replace(self, changed: Object) -> Object:
        self.before_write()
        assert self.lease is not None
        if changed["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiRefused(409, "PUT", "it is another one")
        return self._store(changed)

    def _store(self, body: Object) -> Object:
        self.version += 1
        self.writes += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.lease)

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])


def candidate(leases: FakeLeases, name: str) -> Election:
    return Election(leases, "system", name, LEASE_S)


def attempt(election: Election, now: float) -> bool:
    return asyncio.run(election.attempt(now))


def test_the_first_operator_leads() -> None:
    leases = FakeLeases()
    assert attempt(candidate(leases, "a"), 0)
    assert leases.lease is not None
    spec = leases.lease["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("a", 15)
    assert spec["leaseTransitions"] == 0
    assert spec["acquireTime"] == spec["renewTime"]


def test_renewing_keeps_when_it_was_acquired() -> None:
    leases = FakeLeases()
    one = candidate(leases, "a")
    attempt(one, 0)
    assert leases.lease is not None
    acquired = leases.lease["spec"]["acquireTime"]
    assert attempt(one, 2)
    assert leases.lease["spec"]["acquireTime"] == acquired
    assert leases.lease["spec"]["leaseTransitions"] == 0


def test_a_lease_that_is_renewed_is_not_taken() -> None:
    leases = FakeLeases()
    one, other = candidate(leases, "a"), candidate(leases, "b")
    for now in range(0, 100, 2):
        assert attempt(one, now)
        assert not attempt(other, now + 1)


def test_a_lease_that_stands_still_is_free_after_its_duration() -> None:
    leases = FakeLeases()
    attempt(candidate(leases, "a"), 0)
    other = candidate(leases, "b")
    assert not attempt(other, 1000), "it was seen only now"
    assert not attempt(other, 1000 + LEASE_S - 1)
    assert attempt(other, 1000 + LEASE_S)
    assert leases.lease is not None
    assert (leases.holder, leases.lease["spec"]["leaseTransitions"]) == ("b", 1)


def test_who_comes_back_under_its_name_need_not_wait() -> None:
    leases = FakeLeases()
    attempt(candidate(leases, "a"), 0)
    assert attempt(candidate(leases, "a"), 1)


@pytest.mark.parametrize("there", [True, False], ids=["replace", "create"])
def test_who_is_slower_does_not_lead(there: bool) -> None:
    leases = FakeLeases()
    if there:
        attempt(candidate(leases, ""), 0)

    def faster() -> None:
        leases.before_write = lambda: None
        assert attempt_in_another_loop(candidate(leases, "b"))

    leases.before_write = faster
    assert not attempt(candidate(leases, "a"), 1)
    assert leases.holder == "b"


def attempt_in_another_loop(election: Election) -> bool:
    """The calls of `FakeLeases` never wait, so that one step is all there is to a coroutine."""
    try:
        election.attempt(1).send(None)
    except StopIteration as done:
        return bool(done.value)
    raise AssertionError("it waited")


def test_a_lease_that_is_released_is_free() -> None:
    leases = FakeLeases()
    one = candidate(leases, "a")
    attempt(one, 0)
    asyncio.run(one.release())
    assert leases.holder == ""
    assert attempt(candidate(leases, "b"), 1)


def test_only_its_holder_releases_it() -> None:
    leases = FakeLeases()
    attempt(candidate(leases, "a"), 0)
    asyncio.run(candidate(leases, "b").release())
    assert leases.holder == "a"
    leases.failure = ApiUnreachable("away")
    asyncio.run(candidate(leases, "a").release())


def test_other_errors_are_raised() -> None:
    leases = FakeLeases(failure=ApiRefused(403, "GET", "no"))
    with pytest.raises(ApiRefused):
        attempt(candidate(leases, "a"), 0)


FAST = replace(
    SETTINGS,
    leader_election=LeaderElection(lease_seconds=3, renew_seconds=2, retry_seconds=1),
)


def leading(
    leases: FakeLeases, act: Callable[[], Awaitable[None]], settings: Settings = FAST
) -> bool:
    async def limited() -> bool:
        async with asyncio.timeout(20):
            return await lead(settings, leases, act)

    return asyncio.run(limited())


def test_without_an_election_there_is_no_lease() -> None:
    leases, acted = FakeLeases(), []

    async def act() -> None:
        acted.append(True)

    alone = replace(SETTINGS, leader_election=LeaderElection(enabled=False))
    assert leading(leases, act, alone)
    assert (acted, leases.lease) == ([True], None)


def test_who_ends_hands_the_lease_over() -> None:
    leases = FakeLeases()

    async def act() -> None:
        assert leases.holder == FAST.identity

    assert leading(leases, act)
    assert leases.holder == ""


def test_a_failure_of_the_work_is_raised() -> None:
    async def act() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        leading(FakeLeases(), act)


def test_who_cannot_renew_ends_its_work() -> None:
    leases, ended = FakeLeases(), []

    async def act() -> None:
        leases.failure = ApiUnreachable("the API server is away")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    assert not leading(leases, act)
    assert ended
