"""Leader election: of several operators, the one that holds the Lease acts.

The rules are those of k8s.io/client-go/tools/leaderelection: a Lease that did not change for its
duration, by the clock of whoever looks, is free, so clocks need not agree; a write succeeds only on
the Lease that was read. Who cannot renew in time ends at once, well before others may take over.
(The election of the Python client, 37.0, cannot create a Lease, and waits for calls without limit.)
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from llmjp_operator.errors import ApiRefused, ApiUnreachable
from llmjp_operator.names import LEASE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmjp_operator.settings import Settings

Object = dict[str, Any]

LOOK_EVERY_S: Final = 0.25
"""How often the watchdog looks."""
EXIT_AFTER_S: Final = 1.0
"""How long a process that lost the Lease may take to end: it writes nothing, and may still log."""

_log = logging.getLogger(__name__)


class Leases(Protocol):
    """The part of an API server that an election needs."""

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object, or None."""

    async def create(self, made: Object) -> Object:
        """Create an object; refused where one has the name."""

    async def replace(self, changed: Object) -> Object:
        """Replace an object; refused where it is not the one that was read."""


@dataclass(slots=True)
class Election:
    """One candidate. Seconds are of a monotonic clock."""

    leases: Leases
    namespace: str
    identity: str
    lease_s: float
    _seen: tuple[str, float] = field(default=("", 0.0))
    """Version of the Lease that was read last, and when it was first read."""

    async def attempt(self, now: float) -> bool:
        """Take or renew the Lease; return whether it is ours now.

        Raises:
            ApiRefused, ApiUnreachable: it is not known.
        """
        lease = await self.leases.get("Lease", self.namespace, LEASE)
        try:
            if lease is None:
                await self.leases.create(_make_lease(self.namespace, self.identity, self.lease_s))
                return True
            if not self._is_free(lease, now):
                return False
            await self.leases.replace(_with_holder(lease, self.identity, self.lease_s))
        except ApiRefused as exc:
            if exc.status == 409:  # somebody was faster
                return False
            raise
        return True

    def _is_free(self, lease: Object, now: float) -> bool:
        holder = (lease.get("spec") or {}).get("holderIdentity") or ""
        version = lease["metadata"]["resourceVersion"]
        if self._seen[0] != version:
            self._seen = (version, now)
        return holder in {"", self.identity} or now - self._seen[1] >= self.lease_s

    async def release(self) -> None:
        """Hand the Lease over, so that the next candidate need not wait for it to run out."""
        with suppress(ApiRefused, ApiUnreachable):
            lease = await self.leases.get("Lease", self.namespace, LEASE)
            if lease is not None and lease["spec"].get("holderIdentity") == self.identity:
                await self.leases.replace(_with_holder(lease, "", 1))


def _make_lease(namespace: str, identity: str, lease_s: float) -> Object:
    fresh: Object = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": LEASE, "namespace": namespace},
    }
    return _with_holder(fresh, identity, lease_s)


def _with_holder(lease: Object, identity: str, lease_s: float) -> Object:
    before, now = lease.get("spec") or {}, datetime.now(UTC).isoformat(timespec="microseconds")
    now = now.replace("+00:00", "Z")
    changed = before.get("holderIdentity") != identity
    spec = {
        "holderIdentity": identity,
        "leaseDurationSeconds": int(lease_s),
        "acquireTime": now if changed else before.get("acquireTime", now),
        "renewTime": now,
        "leaseTransitions": before.get("leaseTransitions", -1) + int(changed and bool(identity)),
    }
    return {**lease, "spec": spec}


@dataclass(slots=True)
class Tenure:
    """How long this operator may write: until the renew deadline after its last renewal was sent.

    That is before the Lease ends by anybody's clock. Seconds are of a monotonic clock.
    """

    renew_s: float
    clock: Callable[[], float] = time.monotonic
    until: float = math.inf
    """When it ends; never, where nothing is renewed."""

    def renew(self, sent_at: float) -> None:
        """Go on after a renewal that was sent then; the API server got it later, if anything."""
        self.until = sent_at + self.renew_s

    def is_over(self) -> bool:
        """Return whether nothing may be written any more."""
        return self.clock() >= self.until

    def check_call(self, verb: str, kind: str) -> None:
        """Let a call pass, or refuse it.

        Raises:
            ApiUnreachable: it would write, and the tenure is over.
        """
        if verb != "GET" and kind != "Lease" and self.is_over():
            raise ApiUnreachable(f"{verb} {kind}: the Lease was not renewed in time")


def start_watchdog(tenure: Tenure, exit_at_once: Callable[[], None]) -> threading.Thread:
    """Watch from a thread of its own that the process does not outlive its tenure.

    The event loop may hang, or wait for a watch to stop: `EXIT_AFTER_S` later the process exits,
    whatever it does.

    Args:
        tenure: what is watched; while it never ends, nothing happens.
        exit_at_once: ends the process.
    """

    def watch() -> None:
        while not (math.isfinite(tenure.until) and tenure.clock() >= tenure.until + EXIT_AFTER_S):
            time.sleep(LOOK_EVERY_S)
        _log.error("the Lease was lost, and the process has not ended by itself")
        exit_at_once()

    thread = threading.Thread(target=watch, name="lease-watchdog", daemon=True)
    thread.start()
    return thread


async def lead(
    settings: Settings, leases: Leases, act: Callable[[], Awaitable[None]], tenure: Tenure
) -> bool:
    """Wait for the Lease, then act until that ends or the Lease is lost.

    Returns:
        Whether acting ended by itself; False where the Lease was lost.
    """
    rules = settings.leader_election
    if not rules.enabled:
        await act()
        return True
    election = Election(leases, settings.namespace, settings.identity, rules.lease_seconds)
    while not await _try_once(election, tenure, rules.retry_seconds):  # noqa: ASYNC110
        await asyncio.sleep(
            rules.retry_seconds
        )  # polled: a Lease that is released is not announced
    acting = asyncio.ensure_future(act())
    try:
        while not tenure.is_over():
            left_s = tenure.until - tenure.clock()
            done, _ = await asyncio.wait((acting,), timeout=min(rules.retry_seconds, left_s))
            if done:
                acting.result()
                await election.release()
                tenure.until = math.inf
                return True
            left_s = max(tenure.until - tenure.clock(), 0.0)
            if await _try_once(election, tenure, min(rules.retry_seconds, left_s)) is False:
                tenure.until = tenure.clock()  # Another operator leads already.
    finally:
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)
    _log.error("the Lease was lost")
    return False


async def _try_once(election: Election, tenure: Tenure, limit_s: float) -> bool | None:
    """Take or renew the Lease; return whether it is ours, None where that is not known.

    A call that takes longer than `limit_s` is given up.
    """
    sent_at = tenure.clock()
    try:
        async with asyncio.timeout(limit_s):
            ours = await election.attempt(sent_at)
    except (ApiRefused, ApiUnreachable, TimeoutError) as exc:
        _log.warning(
            "the Lease could not be taken", extra={"reason": f"{type(exc).__name__}: {exc}"}
        )
        return None
    if ours:
        tenure.renew(sent_at)
    return ours
