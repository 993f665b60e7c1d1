"""Images that are removed from the settings while a model serves: what serves is left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from e2e.fake_kubelet import succeed
from llmjp_operator.api import Phase
from llmjp_operator.observe.snapshot import ObjectRef
from llmjp_operator.settings import Settings
from tests.operator.factories import SETTINGS
from tests.operator.fake_workloads import only
from tests.operator.model_bodies import Object
from tests.operator.simulation import Simulation

COMPILED: Object = {
    "engine": {"backend": "tensorrt", "maxSeqLen": 512},
    "hardware": {"gpuProduct": "NVIDIA-H100-80GB-HBM3"},
}
SERVING_KINDS = {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget"}


def without(flavour: str) -> Settings:
    images = {name: images for name, images in SETTINGS.images.items() if name != flavour}
    return replace(SETTINGS, images=images)


def serving_objects(simulation: Simulation) -> dict[str, Any]:
    return {str(r): o for r, o in simulation.objects.items() if r.kind in SERVING_KINDS}


@pytest.mark.parametrize("flavour", ["1.2.1", "cpu"])
@pytest.mark.parametrize("changes", [COMPILED, {}], ids=["tensorrt", "torch"])
def test_what_serves_is_left_alone_until_the_images_are_back(changes: Object, flavour: str) -> None:
    simulation = Simulation(changes)
    simulation.settle()
    before, endpoint = serving_objects(simulation), simulation.status.endpoint
    simulation.restart(without(flavour))
    simulation.settle()
    assert not simulation.errors
    assert serving_objects(simulation) == before
    assert simulation.status.endpoint == endpoint
    if flavour == "cpu" or changes:
        assert simulation.phase == Phase.DEGRADED
        assert simulation.reason("Accepted") == "ImageMissing"
    simulation.restart(SETTINGS)
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    assert serving_objects(simulation) == before


def test_another_backend_is_built_beside_it_and_takes_over() -> None:
    simulation = Simulation(COMPILED)
    simulation.settle()
    before = serving_objects(simulation)
    simulation.restart(without("1.2.1"))
    simulation.workloads.script = lambda pod: None
    simulation.edit()
    for _ in range(3):
        simulation.step()
    assert simulation.phase == Phase.BUILDING
    assert serving_objects(simulation) == before
    simulation.restart()
    simulation.workloads.script = succeed
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    assert not simulation.errors


def test_a_rollback_goes_back_to_the_images_that_ran_before() -> None:
    """A revision is whole: that the settings know its images no longer does not matter."""
    scarce = {"serving": {"maxSurge": 0}}
    simulation = Simulation({**COMPILED, **scarce})
    simulation.settle()
    simulation.restart(without("1.2.1"))
    simulation.workloads.script = only("serving", {"phase": "Running"})
    simulation.edit(scarce)
    simulation.settle()
    assert not simulation.errors
    assert simulation.reason("Progressing") == "RolledBack"
    template = simulation.objects[ObjectRef("Deployment", "a")]["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == SETTINGS.images["1.2.1"].runtime
