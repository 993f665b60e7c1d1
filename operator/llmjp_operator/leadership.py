"""Which of several operators acts: the one that holds the Lease.

Who loses it ends at once, so that two never act together for long; Kubernetes starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import aiohttp
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from llmjp_operator.names import LEASE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kubernetes.aio.client import ApiClient

    from llmjp_operator.settings import Settings

_log = logging.getLogger(__name__)


class _Lock(LeaseLock):  # type: ignore[misc]  # the library has no types
    """The library's, with a limit on every call: without one, a call that hangs would outlast the
    Lease, and two operators would act.
    """

    def __init__(self, namespace: str, identity: str, api: ApiClient, limit_s: float) -> None:
        super().__init__(LEASE, namespace, identity, api)
        self._limit_s = limit_s

    async def get(self, name: str, namespace: str) -> Any:
        return await self._limited(super().get(name, namespace), _no_answer)

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        made = super().create(name, namespace, election_record)
        return bool(await self._limited(made, lambda: False))

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        done = super().update(name, namespace, updated_record)
        return bool(await self._limited(done, lambda: False))

    async def _limited(self, call: Awaitable[Any], otherwise: Callable[[], Any]) -> Any:
        try:
            async with asyncio.timeout(self._limit_s):
                return await call
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            _log.warning("the Lease could not be reached", extra={"reason": type(exc).__name__})
            return otherwise()


def _no_answer() -> tuple[bool, ApiException]:
    return False, ApiException(status=0, reason="no answer")


async def lead(settings: Settings, api: ApiClient, act: Callable[[], Awaitable[None]]) -> bool:
    """Wait for the Lease, then act until that ends or the Lease is lost.

    Returns:
        Whether it ended of itself; False: the Lease was lost.
    """
    election = settings.leader_election
    if not election.enabled:
        await act()
        return True
    ended = asyncio.Event()
    errors: list[BaseException] = []

    async def acting() -> None:
        try:
            await act()
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001  it is raised again below
            errors.append(exc)
        ended.set()

    async def stopped() -> None:
        _log.error("the Lease was lost")

    lock = _Lock(settings.namespace, settings.identity, api, election.retry_seconds)
    config = Config(
        lock,
        lease_duration=election.lease_seconds,
        renew_deadline=election.renew_seconds,
        retry_period=election.retry_seconds,
        onstarted_leading=acting,
        onstopped_leading=stopped,
    )
    elected = asyncio.create_task(LeaderElection(config).run(), name="leader election")
    finished = asyncio.create_task(ended.wait(), name="end of leadership")
    try:
        await asyncio.wait((elected, finished), return_when=asyncio.FIRST_COMPLETED)
        if ended.is_set():
            await _release(lock)
        elif elected.done():
            elected.result()
    finally:
        for task in (elected, finished):
            task.cancel()
        await asyncio.gather(elected, finished, return_exceptions=True)
    if errors:
        raise errors[0]
    return ended.is_set()


async def _release(lock: _Lock) -> None:
    """Hand the Lease over, so that the next operator need not wait for it to run out."""
    held, record = await lock.get(LEASE, lock.namespace)
    if held and record is not None and record.holder_identity == lock.identity:
        patch = {"spec": {"holderIdentity": None}}
        with contextlib.suppress(ApiException, aiohttp.ClientError, OSError):
            await lock.api_instance.patch_namespaced_lease(LEASE, lock.namespace, patch)
