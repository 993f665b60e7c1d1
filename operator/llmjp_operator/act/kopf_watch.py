"""kopf's part: it watches, and every event queues the models that it concerns. No logic.

Only event handlers are registered, none of a kind that makes kopf write (create, update, delete,
timers): it stores nothing in models and adds no finalizer, and a model can be deleted while no
operator runs. No indexes either: until the last object is indexed, every object's task is woken for
every other one, which grows with the square; `initial_list` fills the cache before kopf starts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import kopf

from llmjp_operator.act.initial_list import CHUNK
from llmjp_operator.names import GROUP, MANAGED_BY, OPERATOR, PLURAL, VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from llmjp_operator.act.work_queue import WorkQueue
    from llmjp_operator.observe.cache import Key, ObjectCache

KINDS: Final = {
    "ConfigMap": ("", "v1", "configmaps"),
    "ControllerRevision": ("apps", "v1", "controllerrevisions"),
    "Deployment": ("apps", "v1", "deployments"),
    "Job": ("batch", "v1", "jobs"),
    "NetworkPolicy": ("networking.k8s.io", "v1", "networkpolicies"),
    "PersistentVolumeClaim": ("", "v1", "persistentvolumeclaims"),
    "Pod": ("", "v1", "pods"),
    "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
    "Service": ("", "v1", "services"),
    "ServiceAccount": ("", "v1", "serviceaccounts"),
}
"""Kinds that are watched besides models: only objects with our label, by the server's selector."""

WATCH_S: Final = 270
"""Seconds after which the server ends a watch, and a new one is started."""
SILENCE_S: Final = 70.0
"""A watch without events and bookmarks for so long is dead, and a new one is started."""
EXIT_S: Final = 15.0
"""How long kopf may take to end once a watch has failed for good; then the process is killed, and
the kubelet starts it again. kopf has got stuck there, by its default for ten minutes, in which no
other operator can lead."""
IDLE_S: Final = 0.1
"""How long kopf keeps an object's last event and a task after it."""


def make_registry(cache: ObjectCache, queue: WorkQueue[Key]) -> kopf.OperatorRegistry:
    """Return everything that kopf calls."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(_log_in)

    kopf.on.event(GROUP, VERSION, PLURAL, registry=handlers, id="models")(
        make_model_handler(cache, queue)
    )
    for kind, resource in KINDS.items():
        kopf.on.event(*resource, registry=handlers, labels=_OURS, id=resource[2])(
            make_object_handler(cache, queue, kind)
        )
    return handlers


_OURS: Final = {MANAGED_BY: OPERATOR}


def make_model_handler(cache: ObjectCache, queue: WorkQueue[Key]) -> Callable[..., Awaitable[None]]:
    """Return the handler of events about models."""

    async def handle(event: Any, **_: Any) -> None:
        body = event["object"]
        metadata = body["metadata"]
        key = (metadata["namespace"], metadata["name"])
        if event["type"] == "DELETED":
            queue.forget(key)
            for other in cache.remove_model(*key):
                await queue.add(other)
        elif cache.put_model(body) or event["type"] is not None:
            await queue.add(key)

    return handle


def make_object_handler(
    cache: ObjectCache, queue: WorkQueue[Key], kind: str
) -> Callable[..., Awaitable[None]]:
    """Return the handler of events about our objects of one kind."""

    async def handle(event: Any, **_: Any) -> None:
        body = event["object"]
        metadata = body["metadata"]
        namespace, labels = metadata.get("namespace", ""), metadata.get("labels") or {}
        news = True
        if event["type"] == "DELETED":
            cache.remove(kind, namespace, metadata["name"], metadata.get("uid", ""))
        else:
            news = cache.put(kind, body, from_watch=True) or event["type"] is not None
        for key in sorted(cache.find_models(namespace, labels)) if news else ():
            await queue.add(key)

    return handle


ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


async def _log_in(**arguments: Any) -> kopf.ConnectionInfo | None:
    return find_in_cluster_login(os.environ, ACCOUNT) or kopf.login_with_kubeconfig(**arguments)


def find_in_cluster_login(environ: Mapping[str, str], account: Path) -> kopf.ConnectionInfo | None:
    """Return how a pod reaches its API server: by the environment, as client-go does.

    kopf's own way goes by the name kubernetes.default.svc, and with it by the cluster's DNS.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    token = account / "token"
    if not host or not port or not token.is_file():
        return None
    address = f"[{host}]" if ":" in host else host
    return kopf.ConnectionInfo(
        server=f"https://{address}:{port}",
        ca_path=str(account / "ca.crt"),
        scheme="Bearer",
        token=token.read_text(encoding="utf-8").strip(),
    )


class _NoDiffs(kopf.DiffBaseStorage):
    """No diffs: they are not used, and kopf would copy every object twice for them."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Store nothing."""


def make_settings(*, clusterwide: bool) -> kopf.OperatorSettings:
    """Return how kopf watches; it posts no events and writes nothing."""
    settings = kopf.OperatorSettings()
    # Without rights over the whole cluster it may list neither namespaces nor definitions.
    settings.scanning.disabled = not clusterwide
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = EXIT_S
    settings.watching.server_timeout = WATCH_S
    settings.watching.client_timeout = WATCH_S + 30
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = SILENCE_S
    settings.watching.chunk_size = CHUNK
    settings.networking.request_timeout = 60
    settings.queueing.idle_timeout = IDLE_S
    settings.persistence.diffbase_storage = _NoDiffs()
    for resource in KINDS.values():
        settings.watching.label_selectors[resource] = f"{MANAGED_BY}={OPERATOR}"
    return settings
