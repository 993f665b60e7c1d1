"""HTTP for Kubernetes and Prometheus: /healthz, /readyz, /metrics."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from llmjp_operator.act.metrics import Metrics

PORT: Final = 8080


@asynccontextmanager
async def serve_http(
    metrics: Metrics, alive: Callable[[], str], port: int = PORT
) -> AsyncIterator[int]:
    """Serve while the block runs, on the port that is given to the block.

    Args:
        metrics: what Prometheus reads.
        alive: returns what is wrong, or nothing. An answer at all shows that the event loop turns.
        port: 0 for a free one.
    """

    async def health(_: web.Request) -> web.Response:
        wrong = alive()
        return web.json_response({"ok": not wrong, "reason": wrong}, status=503 if wrong else 200)

    async def numbers(_: web.Request) -> web.Response:
        text = generate_latest(metrics.registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes(
        [web.get("/healthz", health), web.get("/readyz", health), web.get("/metrics", numbers)]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, port=port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
