"""Retries with exponential backoff, for a hub that is busy, slow or unreachable."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from llmjp_builder.contracts.errors import HubFailed
from llmjp_builder.sources.http import TransientFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_Result = TypeVar("_Result")

_EXHAUSTED = re.compile(r'"\w+"\s*;\s*r=0\s*;\s*t=(\d+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRetryPolicy:
    """Limits of retrying; the defaults give up on a hub that stays down after minutes."""

    max_attempts: int = 6
    """Requests in a row without progress."""
    initial_delay_s: float = 1.0
    """Before the second attempt; doubled before each further one."""
    max_delay_s: float = 300.0
    """If the server asks for a longer delay, we give up at once."""
    stall_s: float = 60.0
    """A connection without a byte for so long counts as cut."""

    def compute_delay_s(self, failures: int, error: TransientFailure, subject: str) -> float:
        """Return the seconds to wait before the next attempt.

        Args:
            failures: attempts in a row without progress, this one included.
            error: why the last one failed.
            subject: what was requested, for the message.

        Raises:
            HubFailed: it is time to give up.
        """
        if failures >= self.max_attempts:
            raise HubFailed(
                f"{subject}: {error}; given up after {failures} attempts without progress; partial "
                "downloads are kept, run it again to resume"
            ) from error
        if error.after_s is None:
            return min(self.initial_delay_s * 2.0 ** (failures - 1), self.max_delay_s)
        if error.after_s > self.max_delay_s:
            raise HubFailed(
                f"{subject}: {error}; it asks to wait {error.after_s:.0f} s, but at most "
                f"{self.max_delay_s:.0f} s are waited; run it again later"
            ) from error
        return error.after_s


def retry(
    attempt: Callable[[], _Result],
    subject: str,
    *,
    retry_policy: HubRetryPolicy,
    wait: Callable[[float], None] = time.sleep,
    position: Callable[[], int] = lambda: 0,
) -> _Result:
    """Return the result of `attempt`, retried as `retry_policy` allows.

    Args:
        attempt: raises `TransientFailure` where a retry may succeed.
        subject: what is requested, for messages.
        retry_policy: how often, and after which delays.
        wait: called with seconds.
        position: how far the work is; an attempt that made progress resets the count.

    Raises:
        HubFailed: the retries are used up.
    """
    failures, reached = 0, position()
    while True:
        try:
            return attempt()
        except TransientFailure as exc:
            failures = 1 if position() > reached else failures + 1
            reached = position()
            wait(retry_policy.compute_delay_s(failures, exc, subject))


def parse_retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Parse how long a server asks to wait: an exhausted `RateLimit`, or `Retry-After`.

    `RateLimit` is the hub's way (draft-ietf-httpapi-ratelimit-headers); `Retry-After` has seconds
    or a date (RFC 9110, 10.2.3). None where both are missing or unintelligible.
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
