"""The operator is killed on the node, three times while one model comes up: nothing is done twice.

Kills at every single write are in test_05_interrupted.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from e2e.place import ANSWER, QUESTION, made
from hack.local_cluster.kubectl import wait_until
from llmjp_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.place import Place

pytestmark = pytest.mark.cluster


def test_three_kills_change_nothing_in_the_end(place: Place) -> None:
    place.apply(place.tiny("calm"))
    place.wait_for_phase("Serving", "calm")
    calm = of_models(place)
    place.kubectl("delete", "ljm", "calm", "--timeout=60s")
    wait_until("calm is gone", lambda: (not of_models(place), of_models(place)), timeout_s=120)

    place.apply(place.tiny("shook"))
    kill_when(place, "a Job resolves", lambda: bool(place.jobs("resolve")))
    resolved = place.jobs("resolve")
    kill_when(place, "a Job builds", lambda: bool(place.jobs("build")))
    built = place.jobs("build")
    kill_when(place, "a Deployment is there", lambda: place.status("shook").get("replicas") == 1)
    place.wait_for_phase("Serving", "shook")

    assert place.jobs("resolve") == resolved, "one Job resolved"
    assert place.jobs("build") == built, "one Job built"
    assert of_models(place) == calm
    with Client(place.address("shook")) as client:
        assert client.chat([{"role": "user", "content": QUESTION}], top_k=1).text == ANSWER


def kill_when(place: Place, what: str, seen: Callable[[], bool]) -> None:
    """SIGKILL as soon as that is to be seen, and the kubelet starts the operator again."""
    wait_until(what, lambda: (seen(), place.status("shook")))
    [pod] = place.stage.operators()
    before = restarts(place, pod)
    place.stage.kill_operator()
    wait_until("a new start", lambda: (restarts(place, pod) > before, before), timeout_s=120)


def restarts(place: Place, pod: str) -> int:
    """How often the kubelet started that pod of the operator again."""
    [container] = place.stage.operators()[pod]["status"]["containerStatuses"]
    return int(container["restartCount"])


def of_models(place: Place) -> list[str]:
    """What is there of models, without the models' names, digests, and what Kubernetes appends."""
    return sorted(
        re.sub(r"calm|shook", "x", re.sub(r"-[0-9a-z]*\d[0-9a-z]*|-[a-z]{5}$", "", n))
        for n in made(place.kubectl)
    )
