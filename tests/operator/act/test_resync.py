"""Deletions that no watch told of, and the listing before anything is decided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from llmjp_operator.act.initial_list import fill_cache
from llmjp_operator.act.resync import resync_once, resync_periodically
from llmjp_operator.act.work_queue import WorkQueue
from llmjp_operator.errors import ApiRefused, ApiUnreachable, OperatorError
from llmjp_operator.names import KIND
from llmjp_operator.observe.cache import Key, ObjectCache
from tests.operator.model_bodies import Object
from tests.operator.observe.test_cache import SHARED, a_model, an_object

KINDS = ("Service", "Job")


@dataclass
class FakeCluster:
    """Objects of the API server, by kind."""

    there: dict[str, list[Object]] = field(default_factory=dict)
    version: int = 100
    failures: dict[str, Exception] = field(default_factory=dict)
    """By kind."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    async def list_metadata(
        self, kind: str, namespace: str, selector: str
    ) -> tuple[int, list[Object]]:
        return self.version, [obj async for obj in self.list_objects(kind, namespace, selector, 1)]

    async def list_objects(
        self, kind: str, namespace: str, selector: str, _chunk: int
    ) -> AsyncIterator[Object]:
        self.asked.append((kind, namespace, selector))
        if kind in self.failures:
            raise self.failures[kind]
        for obj in self.there.get(kind, ()):
            if namespace in {"", obj["metadata"]["namespace"]}:
                yield obj

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        key = (namespace, name)
        found = self.there.get(kind, ())
        return next((o for o in found if _key(o) == key), None)


def _key(obj: Object) -> Key:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


@dataclass
class Scene:
    """A view, a queue that nobody works on, and a cluster."""

    cluster: Any = field(default_factory=FakeCluster)
    cache: ObjectCache = field(default_factory=ObjectCache)
    queue: WorkQueue[Key] = field(default_factory=lambda: WorkQueue(_never, _told))
    failed: list[OperatorError] = field(default_factory=list)
    mended: bool = False
    """A list that failed works the next time."""

    def resync_once(self, namespaces: tuple[str, ...] = ()) -> None:
        given: Any = {"kinds": KINDS, "namespaces": namespaces}
        asyncio.run(resync_once(self.cache, self.cluster, self.queue, **given))

    def fill_cache(self, namespaces: tuple[str, ...] = ()) -> None:
        given: Any = {"kinds": KINDS, "namespaces": namespaces, "wait": self.wait}
        asyncio.run(fill_cache(self.cache, self.cluster, self.queue, **given))

    async def wait(self, exc: OperatorError) -> None:
        """What failed works the next time, or nobody waits for it any longer."""
        self.failed.append(exc)
        if self.mended:
            self.cluster.failures.clear()
        else:
            raise exc

    @property
    def queued(self) -> set[Key]:
        return set(self.queue._due)


async def _never(_: Key) -> float | None:
    raise AssertionError("nobody works")


def _told(*_: Any) -> None:
    raise AssertionError("nobody works")


def a_scene(*models: Object, **there: list[Object]) -> Scene:
    scene = Scene()
    scene.cluster.there = {"LlmJpModel": list(models), **there}
    for body in models:
        scene.cache.put_model(body)
    return scene


def test_a_resync_that_finds_everything_queues_nothing() -> None:
    service = an_object(model="a")
    scene = a_scene(a_model("a"), Service=[service])
    scene.cache.put("Service", service)
    scene.resync_once()
    assert scene.queued == set()
    assert ("Service", "", "app.kubernetes.io/managed-by=llmjp-operator") in scene.cluster.asked
    assert ("LlmJpModel", "", "") in scene.cluster.asked


def test_an_object_that_is_gone() -> None:
    scene = a_scene(a_model("a"), a_model("b"))
    scene.cache.put("Service", an_object(model="a"))
    scene.resync_once()
    assert scene.queued == {("ns", "a")}
    assert scene.cache.get_digest("Service", "ns", "o") == ""


def test_an_object_that_was_made_after_the_list() -> None:
    scene = a_scene(a_model("a"))
    scene.cache.put("Service", an_object(version=101, model="a"))
    scene.resync_once()
    assert scene.queued == set()


def test_a_model_that_is_gone_is_told_to_those_of_its_store() -> None:
    scene = a_scene(a_model("a", changes=SHARED), a_model("b", changes=SHARED))
    scene.cluster.there["LlmJpModel"].pop(0)
    asyncio.run(scene.queue.add(("ns", "a")))
    scene.resync_once()
    assert scene.queued == {("ns", "b")}
    assert set(scene.cache.models) == {("ns", "b")}


def test_a_model_that_was_made_after_the_list() -> None:
    scene = a_scene(a_model("a"))
    body = a_model("b")
    scene.cache.put_model(body)

    async def later(*_: str) -> Object:
        return body

    scene.cluster.get = later
    scene.resync_once()
    assert set(scene.cache.models) == {("ns", "a"), ("ns", "b")}


def test_only_namespaces_that_are_watched_are_judged() -> None:
    scene = a_scene(a_model("a"))
    scene.cache.put("Service", an_object(model="a"))
    scene.cluster.there = {}
    scene.resync_once(("other",))
    assert set(scene.cache.models) == {("ns", "a")}
    assert scene.queued == set()
    scene.resync_once(("other", "ns"))
    assert scene.cache.models == {}


def test_a_kind_that_cannot_be_listed_hides_no_other() -> None:
    scene = Scene()
    scene.cache.put_model(a_model("a"))
    scene.cluster.there[KIND] = [a_model("a")]
    scene.cache.put("Job", an_object("gone", model="a"))
    scene.cluster.failures[KINDS[0]] = ApiUnreachable("away")
    with pytest.raises(ApiUnreachable, match="away"):
        scene.resync_once()
    assert [ref.name for ref, _ in scene.cache.list_objects(scene.cache.models["ns", "a"])] == []  # type: ignore[arg-type]
    assert scene.queue.depth == 1


def test_what_was_swept_stays_swept() -> None:
    scene = a_scene(a_model("a"))
    scene.cache.put("Service", an_object(model="a"))
    scene.cluster.failures["Job"] = ApiUnreachable("away")
    with pytest.raises(ApiUnreachable):
        scene.resync_once()
    assert scene.queued == {("ns", "a")}


@pytest.mark.parametrize("failure", [ApiUnreachable("away"), TypeError("a bug")])
def test_a_resync_that_fails_is_not_the_last_one(failure: Exception) -> None:
    scene = a_scene(a_model("a"))
    scene.cache.put("Service", an_object(model="a"))
    again = asyncio.Event()
    listed = scene.cluster.list_metadata

    async def list_metadata(*arguments: str) -> tuple[int, list[Object]]:
        if not scene.cluster.failures:
            scene.cluster.failures["Service"] = failure
            raise failure
        del scene.cluster.failures["Service"]
        scene.cluster.list_metadata = listed
        again.set()
        answer: tuple[int, list[Object]] = await listed(*arguments)
        return answer

    async def until_swept_again() -> None:
        scene.cluster.list_metadata = list_metadata
        given: Any = {"kinds": KINDS, "namespaces": (), "every_s": 0.0}
        task = asyncio.create_task(
            resync_periodically(scene.cache, scene.cluster, scene.queue, **given)
        )
        async with asyncio.timeout(20):
            await again.wait()
        task.cancel()

    asyncio.run(until_swept_again())


def test_everything_is_seen_before_models_are_queued() -> None:
    scene = Scene()
    scene.cluster.there = {
        "LlmJpModel": [a_model("b"), a_model("a")],
        "Service": [an_object(model="a")],
    }
    scene.fill_cache()
    assert scene.queued == {("ns", "a"), ("ns", "b")}
    assert scene.cache.get_digest("Service", "ns", "o")
    assert [kind for kind, _, _ in scene.cluster.asked] == [*KINDS, "LlmJpModel"]


def test_what_is_listed_again_is_no_news() -> None:
    scene = Scene()
    scene.cluster.there = {"LlmJpModel": [a_model("a")], "Service": [an_object(model="a")]}
    scene.fill_cache()
    assert not scene.cache.put("Service", an_object(model="a"), from_watch=True)
    assert not scene.cache.put_model(a_model("a"))


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("LlmJpModel", ApiRefused(403, "GET", "no")),
        ("LlmJpModel", ApiRefused(404, "GET", "the kind is not installed")),
        ("Job", ApiUnreachable("away")),
        ("Job", ApiRefused(404, "GET", "no")),
    ],
)
def test_half_a_listing_is_none(kind: str, failure: Exception) -> None:
    scene = Scene()
    scene.cluster.there = {"LlmJpModel": [a_model("a")]}
    scene.cluster.failures[kind] = failure
    with pytest.raises(type(failure)):
        scene.fill_cache()
    assert scene.queued == set()


def test_a_list_that_failed_is_asked_for_again_and_no_other() -> None:
    scene = Scene(mended=True)
    scene.cluster.there = {"LlmJpModel": [a_model("a")]}
    scene.cluster.failures[KINDS[1]] = ApiRefused(429, "GET", "slow down")
    scene.fill_cache()
    assert [str(exc) for exc in scene.failed] == ["GET: 429 slow down"]
    asked = [kind for kind, _, _ in scene.cluster.asked]
    assert {kind: asked.count(kind) for kind in asked} == {
        **dict.fromkeys((*KINDS, "LlmJpModel"), 1),
        KINDS[1]: 2,
    }
    assert scene.queued == {("ns", "a")}


def test_every_namespace_is_listed() -> None:
    scene = Scene()
    scene.fill_cache(("x", "y"))
    assert {namespace for _, namespace, _ in scene.cluster.asked} == {"x", "y"}
