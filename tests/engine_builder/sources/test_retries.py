"""How long is waited, and what an answer means. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import (
    AccessDenied,
    BadToken,
    BuilderError,
    GatedRepository,
    HubFailed,
    MissingRepository,
)
from llmjp_builder.sources.http import (
    TransientFailure,
    _list_transport_errors,
    translated_http_errors,
)
from llmjp_builder.sources.hub_errors import HubRequest, translate_response
from llmjp_builder.sources.retries import HubRetryPolicy, parse_retry_after, retry

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": " 17 "}, 17.0),
        ({"Retry-After": "Fri, 02 Jan 2026 03:05:05 GMT"}, 60.0),
        ({"Retry-After": "Fri, 02 Jan 2026 03:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"RateLimit": '"api";r=0;t=55'}, 55.0),
        ({"RateLimit": '"api";r=12;t=55'}, None),
        ({"RateLimit": '"api";r=0;t=55', "Retry-After": "3"}, 55.0),
    ],
)
def test_parse_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_retry_after(headers, now=NOW) == seconds


def test_addresses_of_storage_hosts_lose_their_query() -> None:
    [error] = _list_transport_errors()
    with pytest.raises(TransientFailure) as caught, translated_http_errors():
        raise error("no route (url: https://storage.test/file?signature=secret in vain)")
    assert "https://storage.test/file?... in vain" in str(caught.value)


@given(st.text(max_size=40))
def test_no_header_makes_it_fail(text: str) -> None:
    seconds = parse_retry_after({"Retry-After": text, "RateLimit": text}, now=NOW)
    assert seconds is None or seconds >= 0


def test_waits_grow_and_end() -> None:
    waits: list[float] = []

    def attempt() -> None:
        raise TransientFailure("cut")

    with pytest.raises(HubFailed, match=r"thing: cut; given up after 4 attempts"):
        retry(
            attempt,
            "thing",
            retry_policy=HubRetryPolicy(max_attempts=4, initial_delay_s=2),
            wait=waits.append,
        )
    assert waits == [2, 4, 8]


def test_a_requested_delay_is_kept_up_to_the_limit() -> None:
    waits: list[float] = []
    answers = iter([TransientFailure("busy", 7), TransientFailure("busy", 301)])

    def attempt() -> None:
        raise next(answers)

    with pytest.raises(HubFailed, match="301 s, but at most 300 s are waited"):
        retry(attempt, "thing", retry_policy=HubRetryPolicy(), wait=waits.append)
    assert waits == [7]


def test_progress_renews_the_patience() -> None:
    done = 0

    def attempt() -> str:
        nonlocal done
        done += 1
        if done < 20:
            raise TransientFailure("cut")
        return "here"

    retry_policy = HubRetryPolicy(max_attempts=2, initial_delay_s=0)
    assert retry(attempt, "thing", retry_policy=retry_policy, position=lambda: done) == "here"


def _asked(*, token: bool = True, name: str | None = None) -> HubRequest:
    return HubRequest(
        endpoint="https://hub.test",
        repository="o/n",
        revision="main",
        name=name,
        with_token=token,
    )


@pytest.mark.parametrize(
    ("status", "code", "asked", "error", "words"),
    [
        (401, "", _asked(), BadToken, "does not accept the token"),
        (401, "RepoNotFound", _asked(token=False), BadToken, "private"),
        (401, "GatedRepo", _asked(token=False), GatedRepository, "https://hub.test/o/n"),
        (403, "GatedRepo", _asked(), GatedRepository, "https://hub.test/o/n"),
        (403, "", _asked(), AccessDenied, "read access"),
        (404, "RepoNotFound", _asked(), MissingRepository, "no such repository"),
        (404, "RevisionNotFound", _asked(), MissingRepository, "'main'"),
        (404, "EntryNotFound", _asked(name="f"), MissingRepository, "o/n: f"),
        (418, "", _asked(), HubFailed, "418"),
        (302, "", _asked(), HubFailed, "302"),
        (429, "", _asked(), TransientFailure, "429"),
        (503, "", _asked(name="f"), TransientFailure, "503"),
    ],
)
def test_refusal(
    status: int,
    code: str,
    asked: HubRequest,
    error: type[BuilderError | TransientFailure],
    words: str,
) -> None:
    found = translate_response(status, {"X-Error-Code": code}, asked)
    assert type(found) is error
    assert words in str(found)
