"""How long a hub that is busy, slow or cut off is waited for. Pure but for the wait itself."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from llmjp_builder.contracts.errors import HubFailed
from llmjp_builder.sources.http import TryAgain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_Result = TypeVar("_Result")

_EXHAUSTED = re.compile(r'"\w+"\s*;\s*r=0\s*;\s*t=(\d+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Bounds of waiting; with the defaults a hub that stays down is given up after minutes."""

    tries: int = 6
    """Requests in a row that bring nothing new."""
    first_wait_s: float = 1.0
    """Before the second try; doubled before each further one."""
    longest_wait_s: float = 300.0
    """A server that asks for more is given up at once."""
    stall_s: float = 60.0
    """Without a byte, after which a connection counts as cut."""

    def delay(self, failures: int, error: TryAgain, what: str) -> float:
        """Seconds to wait before the next try.

        Args:
            failures: tries in a row that brought nothing new, this one included.
            error: why the last one failed.
            what: was asked for, for the message.

        Raises:
            HubFailed: it is time to give up.
        """
        if failures >= self.tries:
            raise HubFailed(
                f"{what}: {error}; given up after {failures} tries without progress; what has "
                "arrived is kept, run it again to go on"
            ) from error
        if error.after_s is None:
            return min(self.first_wait_s * 2.0 ** (failures - 1), self.longest_wait_s)
        if error.after_s > self.longest_wait_s:
            raise HubFailed(
                f"{what}: {error}; it asks to wait {error.after_s:.0f} s, which is more than the "
                f"{self.longest_wait_s:.0f} s that are waited; run it again then"
            ) from error
        return error.after_s


def patiently(
    attempt: Callable[[], _Result],
    what: str,
    *,
    patience: Patience,
    wait: Callable[[float], None] = time.sleep,
    position: Callable[[], int] = lambda: 0,
) -> _Result:
    """The result of `attempt`, tried again as long as `patience` lasts.

    Args:
        attempt: raises `TryAgain` for what may pass.
        what: is asked for, for messages.
        patience: how long.
        wait: called with seconds.
        position: how far the work is; a try that moved it forward starts the count anew.

    Raises:
        HubFailed: patience ran out.
    """
    failures, reached = 0, position()
    while True:
        try:
            return attempt()
        except TryAgain as exc:
            failures = 1 if position() > reached else failures + 1
            reached = position()
            wait(patience.delay(failures, exc, what))


def asked_wait_s(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """How long a server asks to wait: by `RateLimit` where it is exhausted, or by `Retry-After`.

    `RateLimit` is the hub's way (draft-ietf-httpapi-ratelimit-headers); `Retry-After` has seconds
    or a date (RFC 9110, 10.2.3). None where it does not say, or not in a way that can be read.
    """
    if exhausted := _EXHAUSTED.search(headers.get("RateLimit", "")):
        return float(exhausted[1])
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
