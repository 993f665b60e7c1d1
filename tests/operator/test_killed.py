"""An operator killed at any of its writes, or at each, ends where an undisturbed one does."""

from __future__ import annotations

import functools

import pytest

from llmjp_operator.api import Phase
from llmjp_operator.names import KIND
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.fake_workloads import JOB_UID
from tests.operator.model_bodies import Object
from tests.operator.simulation import Simulation
from tests.operator.test_lifecycle import SCARCE, build_names, tp

STORY: dict[str, Object] = {
    "created": {},
    "changed": tp(2),
    "changed without a GPU to spare": {**tp(4), **SCARCE},
    "changed back": {},
}
"""Specs, one after the other."""


@functools.cache
def before(chapter: str) -> Simulation:
    """Return what was there when a spec of the story came."""
    simulation = Simulation()
    simulation.server.discard(ObjectRef(KIND, "a"))
    for name, changes in STORY.items():
        if name == chapter:
            break
        simulation.edit(changes)
        simulation.settle()
    return simulation


def live_through(chapter: str, *, kill_after: int | None = None, down_s: float = 0.0) -> Simulation:
    simulation = before(chapter).fork(kill_after=kill_after)
    simulation.down_s = down_s
    simulation.edit(STORY[chapter])
    simulation.settle()
    return simulation


def comparable(simulation: Simulation) -> Object:
    """Return all objects without what differs from run to run."""
    found = {}
    for ref, body in simulation.objects.items():
        metadata = {k: v for k, v in body["metadata"].items() if k not in VOLATILE}
        metadata["labels"] = {k: v for k, v in metadata.get("labels", {}).items() if k != JOB_UID}
        rest = {k: v for k, v in body.items() if k not in {"metadata", "status"}}
        if ref.kind == "ConfigMap":
            rest["data"] = {k: v for k, v in body["data"].items() if k != "claim"}
        found[f"{ref.kind}/{ref.name}"] = {**rest, "metadata": metadata}
    return found


VOLATILE = {"uid", "generation", "resourceVersion", "ownerReferences", "managedFields"} | {
    "creationTimestamp"
}


def assert_same(simulation: Simulation, undisturbed: Simulation, when: str) -> None:
    assert comparable(simulation) == comparable(undisturbed), when
    assert build_names(simulation) == build_names(undisturbed), f"{when}: a second Job"
    assert not simulation.errors, when


@pytest.mark.parametrize("chapter", STORY)
def test_an_operator_killed_at_any_write_converges_to_the_same_objects(chapter: str) -> None:
    undisturbed = live_through(chapter)
    for moment, write in enumerate(undisturbed.server.writes):
        simulation = live_through(chapter, kill_after=moment)
        assert simulation.server.writes[: moment + 1] == undisturbed.server.writes[: moment + 1]
        assert_same(simulation, undisturbed, f"killed by {write} ({moment})")
        assert simulation.status.engine == undisturbed.status.engine


@pytest.mark.parametrize("chapter", STORY)
def test_jobs_that_finish_while_the_operator_is_down_are_not_missed(chapter: str) -> None:
    undisturbed = live_through(chapter)
    for moment, write in enumerate(undisturbed.server.writes):
        simulation = live_through(chapter, kill_after=moment, down_s=60.0)
        assert_same(simulation, undisturbed, f"killed by {write} ({moment})")
        assert simulation.status.engine.active == undisturbed.status.engine.active


@pytest.mark.parametrize("chapter", STORY)
def test_an_operator_killed_at_each_of_its_writes_still_converges(chapter: str) -> None:
    simulation = before(chapter).fork()
    simulation.server.kill_always = True
    simulation.edit(STORY[chapter])
    simulation.settle()
    assert_same(simulation, live_through(chapter), "killed by each write")
    assert simulation.phase == Phase.SERVING
