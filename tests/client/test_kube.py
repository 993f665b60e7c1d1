"""Calls to an API server: pages, errors, logins, its clock."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web

from llmjp_client import LlmJpError, ModelNotFound
from llmjp_client.kube import (
    METADATA_ONLY,
    KubeApi,
    KubeApiFailed,
    KubeApiUnreachable,
    KubeconfigError,
    KubeForbidden,
    KubeObjectNotFound,
    format_models_path,
)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")


def write_kubeconfig(folder: Path, port: int, token: str = "secret") -> Path:
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "mine"}},
            {"name": "two", "context": {"cluster": "c", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }
    path.write_text(json.dumps(document))
    return path


def call(folder: Path, answer: Answer, use: Callable[[KubeApi], Awaitable[T]]) -> T:
    """What `use` returns with an API server that answers so."""

    async def run() -> T:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        kubeconfig = write_kubeconfig(folder, runner.addresses[0][1])
        try:
            async with await KubeApi.connect(kubeconfig, None) as api:
                return await use(api)
        finally:
            await runner.cleanup()

    return asyncio.run(run())


def test_a_list_is_read_page_by_page(tmp_path: Path) -> None:
    queries = []

    async def answer(request: web.Request) -> web.Response:
        queries.append(dict(request.query))
        first = "continue" not in request.query
        metadata = {"continue": "more"} if first else {}
        items = [{"n": 1}, {"n": 2}] if first else [{"n": 3}]
        return web.json_response({"metadata": metadata, "items": items})

    items = call(tmp_path, answer, lambda api: api.list_items("/pods", {"labelSelector": "a=b"}))
    assert [item["n"] for item in items] == [1, 2, 3]
    assert queries == [
        {"labelSelector": "a=b", "limit": "500"},
        {"labelSelector": "a=b", "limit": "500", "continue": "more"},
    ]


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [
        (401, KubeForbidden, 5),
        (403, KubeForbidden, 5),
        (404, KubeObjectNotFound, 3),
        (429, KubeApiFailed, 1),
        (503, KubeApiFailed, 1),
    ],
)
def test_what_is_refused(
    tmp_path: Path, status: int, kind: type[LlmJpError], exit_code: int
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "message": "no way"}, status=status)

    with pytest.raises(kind, match=f"the API server answered {status} for /x: no way") as caught:
        call(tmp_path, answer, lambda api: api.get("/x"))
    assert type(caught.value) is kind
    assert caught.value.exit_code == exit_code


def test_an_error_that_is_not_json_is_told_as_it_is(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="upstream died", status=502)

    with pytest.raises(KubeApiFailed, match="answered 502 for /x: upstream died"):
        call(tmp_path, answer, lambda api: api.get("/x"))


def test_nobody_answers(tmp_path: Path) -> None:
    async def run() -> None:
        async with await KubeApi.connect(write_kubeconfig(tmp_path, 1), None) as api:
            await api.get("/version")

    with pytest.raises(KubeApiUnreachable, match="cannot be reached"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ('llmjpmodels.serving.llmjp.dev "a" not found', "no LlmJpModel a in namespace ns"),
        ("404 page not found", "no kind LlmJpModel: install the operator"),
    ],
)
def test_a_missing_model_and_a_missing_kind(tmp_path: Path, message: str, told: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.path == f"{format_models_path('ns')}/a"
        return web.json_response({"message": message}, status=404)

    with pytest.raises(ModelNotFound, match=told):
        call(tmp_path, answer, lambda api: api.get_model("ns", "a"))


def test_objects_are_posted_as_json_and_asked_for_in_part(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.json() if request.method == "POST" else None
        seen.append((request.method, request.headers["Accept"], body))
        return web.json_response({"kind": "Answer"})

    async def use(api: KubeApi) -> list[Any]:
        return [await api.create("/reviews", {"a": 1}), await api.get("/x", accept=METADATA_ONLY)]

    assert call(tmp_path, answer, use) == [{"kind": "Answer"}] * 2
    assert seen == [("POST", "application/json", {"a": 1}), ("GET", METADATA_ONLY, None)]


def test_a_token_that_expired_is_read_again_once(tmp_path: Path) -> None:
    tokens = []

    async def answer(request: web.Request) -> web.Response:
        tokens.append(request.headers["Authorization"])
        if request.headers["Authorization"] == "Bearer newer":
            return web.json_response({})
        assert request.transport is not None
        write_kubeconfig(tmp_path, request.transport.get_extra_info("sockname")[1], "newer")
        return web.json_response({"message": "Unauthorized"}, status=401)

    call(tmp_path, answer, lambda api: api.get("/x"))
    assert tokens == ["Bearer secret", "Bearer newer"]


def test_the_clock_is_the_api_servers(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({}, headers={"Date": formatdate(time.time() + 3600, usegmt=True)})

    async def use(api: KubeApi) -> float:
        await api.get("/version")
        return api.estimate_server_time()

    assert call(tmp_path, answer, use) == pytest.approx(time.time() + 3600, abs=60)


def test_a_watch_ends_when_nobody_reads_it(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert (request.query["watch"], request.query["timeoutSeconds"]) == ("true", "300")
        response = web.StreamResponse()
        await response.prepare(request)
        for kind in ("ADDED", "MODIFIED"):
            await response.write(json.dumps({"type": kind}).encode() + b"\n")
        await asyncio.sleep(300)
        return response

    async def use(api: KubeApi) -> list[str]:
        kinds = []
        events = api.watch("/models", {}, 300)
        async for event in events:
            kinds.append(event["type"])
            if len(kinds) == 2:
                break
        await events.aclose()
        return kinds

    start = time.monotonic()
    assert call(tmp_path, answer, use) == ["ADDED", "MODIFIED"]
    assert time.monotonic() - start < 30


def test_namespaces_of_contexts(tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path, 1)

    async def namespace(context: str | None) -> str:
        async with await KubeApi.connect(kubeconfig, context) as api:
            return api.namespace

    assert [asyncio.run(namespace(each)) for each in (None, "one", "two")] == [
        "mine",
        "mine",
        "default",
    ]
    with pytest.raises(KubeconfigError):
        asyncio.run(namespace("three"))
