"""The operator's process, `python -m llmjp_operator`: everything is wired together here."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import kopf
from kubernetes.aio import client, config

from llmjp_operator.act.api_client import CALLS_AT_ONCE, KubeCluster
from llmjp_operator.act.controller import Controller
from llmjp_operator.act.health import Health
from llmjp_operator.act.http_server import PORT, serve_http
from llmjp_operator.act.initial_list import fill_cache
from llmjp_operator.act.json_logging import configure_logging
from llmjp_operator.act.kopf_watch import KINDS, make_registry, make_settings
from llmjp_operator.act.leadership import Tenure, lead, start_watchdog
from llmjp_operator.act.metrics import Metrics
from llmjp_operator.act.resync import resync_periodically
from llmjp_operator.act.work_queue import WorkQueue
from llmjp_operator.errors import ApiRefused, BadSettings, OperatorError, WatchFailed
from llmjp_operator.observe.cache import ObjectCache
from llmjp_operator.settings import Settings, parse_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping

    from llmjp_operator.observe.cache import Key

_log = logging.getLogger("llmjp_operator")

SETTINGS: Final = "LLMJP_SETTINGS"
"""Environment variable: path of settings.json."""
LISTING_PAUSE_S: Final = 1.0
"""Pause before a failed list of the start is tried again."""
REFUSED_PAUSE_S: Final = 5.0
"""The same, where somebody must do something first, such as grant a right."""
WORKERS: Final = 8
"""How many models are reconciled at once."""


@dataclass(slots=True)
class Operator:
    """One process."""

    settings: Settings
    api: client.ApiClient
    port: int

    async def run(self, stop: asyncio.Event) -> bool:
        """Run until `stop` is set; return whether that is why it ended."""
        cache = ObjectCache()
        metrics = Metrics(cache)
        limit = asyncio.Semaphore(CALLS_AT_ONCE)
        tenure = Tenure(self.settings.leader_election.renew_seconds)
        start_watchdog(tenure, lambda: os._exit(OperatorError.exit_code))

        def check_call(verb: str, kind: str) -> None:
            tenure.check_call(verb, kind)
            metrics.count_call(verb, kind)

        cluster = KubeCluster(self.api, limit, check_call)
        controller = Controller(cache, cluster, self.settings, metrics)
        health = Health(tenure)
        async with serve_http(metrics, health.describe_failure, self.port) as port:
            _log.info("ready to lead", extra={"port": port, "identity": self.settings.identity})
            leading = asyncio.create_task(
                lead(
                    self.settings,
                    cluster,
                    lambda: self._lead(controller, cluster, health, stop),
                    tenure,
                )
            )
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait((leading, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not leading.done() and not metrics.leading._value.get():  # noqa: SLF001  its only reader
                leading.cancel()
            stopped.cancel()
            with suppress(asyncio.CancelledError):
                return await leading
            return True

    async def _lead(
        self, controller: Controller, cluster: KubeCluster, health: Health, stop: asyncio.Event
    ) -> None:
        metrics, namespaces = controller.metrics, self.settings.watch_namespaces
        _log.info("leading", extra={"namespaces": ", ".join(namespaces) or "all"})
        metrics.leading.set(1)

        async def reconcile(key: Key) -> float | None:
            with metrics.reconciled.time():
                return await controller.reconcile(key)

        def report_failure(key: Key, exc: Exception, pause_s: float) -> None:
            metrics.failed.inc()
            expected = isinstance(exc, OperatorError)
            _log.log(
                logging.WARNING if expected else logging.ERROR,
                "reconcile failed",
                extra={"model": "/".join(key), "reason": str(exc), "pause_s": pause_s},
                exc_info=None if expected else exc,
            )

        queue: WorkQueue[Key] = WorkQueue(reconcile, report_failure)
        metrics.waiting.set_function(lambda: queue.depth)
        if not await _run_unless(stop, self._fill(controller.cache, cluster, queue)):
            return
        resync = resync_periodically(
            controller.cache,
            cluster,
            queue,
            kinds=tuple(KINDS),
            namespaces=namespaces,
            every_s=self.settings.resync_seconds,
        )
        work = {f"worker {number}": queue.work() for number in range(1, WORKERS + 1)}
        async with _run_in_background({"resync": resync, **work}) as tasks:
            health.tasks, health.queue = tasks, queue
            await self._watch(controller.cache, queue, stop)
            health.tasks = {}

    async def _watch(self, cache: ObjectCache, queue: WorkQueue[Key], stop: asyncio.Event) -> None:
        """Run kopf until `stop` is set.

        Raises:
            WatchFailed: it ended by itself.
        """
        namespaces = self.settings.watch_namespaces
        try:
            await kopf.operator(
                registry=make_registry(cache, queue),
                settings=make_settings(clusterwide=not namespaces),
                standalone=True,
                # Else kopf asks for the name of the user, and the image's has none.
                identity=self.settings.identity,  # type: ignore[arg-type]
                clusterwide=not namespaces,
                namespaces=namespaces,
                stop_flag=stop,
            )
        except Exception as exc:  # kopf's own have no public base
            raise WatchFailed(f"a watch failed: {exc}") from exc

    async def _fill(self, cache: ObjectCache, cluster: KubeCluster, queue: WorkQueue[Key]) -> None:
        """Fill the cache, however often it takes: nothing is decided on half of it."""

        async def wait(exc: OperatorError) -> None:
            passes = not isinstance(exc, ApiRefused) or exc.is_transient
            pause_s = LISTING_PAUSE_S if passes else REFUSED_PAUSE_S
            _log.warning("listing failed", extra={"reason": str(exc), "pause_s": pause_s})
            await asyncio.sleep(pause_s)

        await fill_cache(
            cache,
            cluster,
            queue,
            kinds=tuple(KINDS),
            namespaces=self.settings.watch_namespaces,
            wait=wait,
        )


async def _run_unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Return whether the work was done before `stop` was set; otherwise it is cancelled."""
    working, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        for task in (working, stopped):
            task.cancel()
        await asyncio.gather(working, stopped, return_exceptions=True)


@asynccontextmanager
async def _run_in_background(
    coroutines: Mapping[str, Coroutine[Any, Any, None]],
) -> AsyncIterator[dict[str, asyncio.Future[Any]]]:
    tasks = {name: asyncio.ensure_future(work) for name, work in coroutines.items()}
    try:
        yield dict(tasks)
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


def read_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        BadSettings: they are missing or not understood.
    """
    name = os.environ.get(SETTINGS, "")
    try:
        text = Path(name).read_text(encoding="utf-8") if name else "{}"
    except OSError as exc:
        raise BadSettings(SETTINGS, f"{name}: {exc.strerror}") from exc
    return parse_settings(os.environ, text)


async def run(settings: Settings, port: int) -> int:
    """Run; return 0 after SIGTERM, 1 where the Lease was lost or the cluster cannot be reached."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        config.load_incluster_config()
    except config.ConfigException:
        await config.load_kube_config()
    async with client.ApiClient() as api:
        try:
            stopped = await Operator(settings, api, port).run(stop)
        except OperatorError as exc:
            _log.error("ended", extra={"reason": str(exc)}, exc_info=exc.__cause__)
            return exc.exit_code
    return 0 if stopped else 1


def main() -> None:
    """Read the settings, run, and exit."""
    try:
        settings = read_settings()
    except BadSettings as exc:
        print(f"llmjp-operator: {exc}", file=sys.stderr)  # noqa: T201  logging is not set up yet
        sys.exit(exc.exit_code)
    configure_logging(settings.log_level)
    _log.info("starting", extra={"version": importlib.metadata.version("llmjp-serving")})
    port = int(os.environ.get("LLMJP_PORT", PORT))
    sys.exit(asyncio.run(run(settings, port)))


if __name__ == "__main__":
    main()
