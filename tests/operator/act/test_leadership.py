"""Who leads: the rules of the Lease, on a Lease in memory and a clock of the test's own."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from llmjp_operator.act.api_client import KubeCluster
from llmjp_operator.act.leadership import EXIT_AFTER_S, Election, Tenure, lead, start_watchdog
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


RENEW_S = 2

FAST = replace(
    SETTINGS,
    leader_election=LeaderElection(lease_seconds=3, renew_seconds=RENEW_S, retry_seconds=1),
)


def leading(
    leases: FakeLeases,
    act: Callable[[], Awaitable[None]],
    settings: Settings = FAST,
    tenure: Tenure | None = None,
) -> bool:
    async def limited() -> bool:
        async with asyncio.timeout(20):
            return await lead(settings, leases, act, tenure or Tenure(RENEW_S))

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


class Clock:
    """A monotonic clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_tenure_ends_counted_from_when_the_renewal_was_sent() -> None:
    clock = Clock()
    tenure = Tenure(10, clock)
    assert not tenure.is_over(), "nothing was renewed: nothing ends"
    tenure.renew(sent_at=98.0)
    clock.now = 107.9
    tenure.check_call("PATCH", "Deployment")
    clock.now = 108.0
    for verb in ("PATCH", "POST", "DELETE"):
        with pytest.raises(ApiUnreachable, match="the Lease was not renewed in time"):
            tenure.check_call(verb, "Deployment")
    tenure.check_call("GET", "Deployment")
    tenure.check_call("PUT", "Lease")


def test_a_write_is_judged_when_it_is_sent_not_when_it_was_wanted() -> None:
    """Calls wait for one another: the tenure may end meanwhile."""
    clock, sent = Clock(), []
    tenure = Tenure(10, clock)
    tenure.renew(clock.now)

    class Api:
        async def param_serialize(self, *args: object, **_: object) -> tuple[object, ...]:
            clock.now += 11
            return args

        async def call_api(self, *args: object, **_: object) -> None:
            sent.append(args)

    async def write() -> None:
        cluster = KubeCluster(Api(), asyncio.Semaphore(1), tenure.check_call)
        await cluster.delete("Service", "ns", "a")

    with pytest.raises(ApiUnreachable, match="the Lease was not renewed"):
        asyncio.run(write())
    assert sent == []


def test_a_call_that_hangs_does_not_make_the_tenure_longer() -> None:
    """The API server takes every renewal, and never answers."""
    leases, tenure = FakeLeases(), Tenure(RENEW_S)
    hangs = False

    class Hanging(FakeLeases):
        async def get(self, *args: str) -> Object | None:
            if hangs:
                await asyncio.Event().wait()
            return await leases.get(*args)

        async def create(self, made: Object) -> Object:
            return await leases.create(made)

    ended_at = 0.0

    async def act() -> None:
        nonlocal hangs, ended_at
        hangs = True
        try:
            await asyncio.Event().wait()
        finally:
            ended_at = tenure.clock()

    assert not leading(Hanging(), act, tenure=tenure)
    assert ended_at >= tenure.until
    assert tenure.is_over()


def test_who_sees_another_leader_ends_at_once() -> None:
    leases, tenure = FakeLeases(), Tenure(RENEW_S)

    async def act() -> None:
        assert leases.lease is not None
        leases.lease["spec"]["holderIdentity"] = "b"
        leases.lease["metadata"]["resourceVersion"] = "99"
        await asyncio.Event().wait()

    assert not leading(leases, act, tenure=tenure)
    assert tenure.is_over()
    assert leases.holder == "b"


@pytest.mark.parametrize("enabled", [True, False])
def test_the_watchdog_ends_a_process_that_does_not_end_itself(enabled: bool) -> None:
    clock, ended = Clock(), threading.Event()
    tenure = Tenure(10, clock)
    if enabled:
        tenure.renew(clock.now)
    thread = start_watchdog(tenure, ended.set)
    clock.now += 10 + EXIT_AFTER_S
    assert ended.wait(10 if enabled else 0.6) == enabled
    tenure.renew(0)
    thread.join(10)
    assert not thread.is_alive()
