"""An edit of the ConfigMap with calibration texts, which is not watched, is acted upon."""

from __future__ import annotations

from llmjp_operator.decide.requeue import TEXTS_EVERY_S
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.model_bodies import Object
from tests.operator.simulation import Simulation
from tests.operator.test_every_advice import CALIBRATED, TEXTS

SETTLED_S = 120.0


def serve_calibrated() -> Simulation:
    """Return a model that serves what was calibrated with texts."""
    simulation = Simulation(CALIBRATED)
    simulation.server.put(TEXTS)
    simulation.run_for(SETTLED_S)
    assert simulation.phase == "Serving"
    return simulation


def edit_texts(simulation: Simulation, text: str) -> None:
    body: Object = simulation.objects[ObjectRef("ConfigMap", "texts")]
    simulation.server.put({**body, "data": {"texts.txt": text}})


def test_an_edit_of_the_texts_is_built_with_nothing_else_happening() -> None:
    simulation = serve_calibrated()
    assert len(simulation.all_jobs("build")) == 1
    edit_texts(simulation, "another text")
    simulation.run_for(TEXTS_EVERY_S + 1)
    assert len(simulation.all_jobs("build")) == 2
    simulation.run_for(SETTLED_S)
    assert simulation.phase == "Serving"


def test_texts_that_stay_build_nothing() -> None:
    simulation = serve_calibrated()
    writes = simulation.writes
    simulation.run_for(10 * TEXTS_EVERY_S)
    assert simulation.writes == writes


def test_texts_that_are_deleted_are_missed() -> None:
    simulation = serve_calibrated()
    simulation.server.discard(ObjectRef("ConfigMap", "texts"))
    simulation.run_for(TEXTS_EVERY_S + 1)
    assert simulation.reason("Accepted") == "TextsMissing"
