"""Advice that the operator gives is followed, word for word, until the model serves."""

from __future__ import annotations

import re

import pytest

from e2e.fake_kubelet import make_ended_status, succeed
from llmjp_operator.api import Phase
from llmjp_operator.names import RETRY
from tests.operator.factories import make_failure
from tests.operator.fake_workloads import only
from tests.operator.simulation import Simulation

COMMAND = re.compile(rf'kubectl annotate -n ns --overwrite ljm/a {re.escape(RETRY)}="(.+)"$')


def annotate_as_told(simulation: Simulation) -> None:
    """Run the command at the end of the message, a minute later."""
    simulation.run_for(60)
    found = COMMAND.search(simulation.message("EngineReady"))
    assert found is not None, simulation.message("EngineReady")
    simulation.edit(retry=found[1].replace("$(date +%s)", str(int(simulation.now))))
    simulation.settle()


@pytest.mark.parametrize("component", ["resolve", "build"])
def test_the_command_for_another_try_works_any_number_of_times(component: str) -> None:
    refused = make_failure("gated_repository", retryable=False)
    simulation = Simulation(script=only(component, make_ended_status(refused.to_json(), 3)))
    simulation.settle()
    for tries in (1, 2, 3):
        assert len(simulation.all_jobs(component)) == tries
        assert simulation.phase == Phase.FAILED
        if tries == 3:
            simulation.workloads.script = succeed
        annotate_as_told(simulation)
    assert simulation.phase == Phase.SERVING
