"""The operator is killed on the node, three times while one model comes up: nothing is done twice.

Kills at every single write are in test_05_interrupted.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from e2e.harness.namespace import ANSWER, QUESTION, list_made_objects
from hack.local_cluster.kubectl import wait_until
from llmjp_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.harness.namespace import ModelNamespace

pytestmark = pytest.mark.cluster


def test_three_kills_change_nothing_in_the_end(models: ModelNamespace) -> None:
    models.apply(models.render_example("calm"))
    models.wait_for_phase("Serving", "calm")
    calm = of_models(models)
    models.kubectl("delete", "ljm", "calm", "--timeout=60s")
    wait_until("calm is gone", lambda: (not of_models(models), of_models(models)), timeout_s=120)

    models.apply(models.render_example("shook"))
    kill_when(models, "a Job resolves", lambda: bool(models.list_jobs("resolve")))
    resolved = models.list_jobs("resolve")
    kill_when(models, "a Job builds", lambda: bool(models.list_jobs("build")))
    built = models.list_jobs("build")
    kill_when(
        models, "a Deployment is there", lambda: models.get_status("shook").get("replicas") == 1
    )
    models.wait_for_phase("Serving", "shook")

    assert models.list_jobs("resolve") == resolved, "one Job resolved"
    assert models.list_jobs("build") == built, "one Job built"
    assert of_models(models) == calm
    with Client(models.get_address("shook")) as client:
        assert client.chat([{"role": "user", "content": QUESTION}], top_k=1).text == ANSWER


def kill_when(models: ModelNamespace, what: str, seen: Callable[[], bool]) -> None:
    """SIGKILL as soon as that is to be seen, and the kubelet starts the operator again."""
    wait_until(what, lambda: (seen(), models.get_status("shook")))
    [pod] = models.installation.list_operator_pods()
    before = restarts(models, pod)
    models.installation.kill_operator()
    wait_until("a new start", lambda: (restarts(models, pod) > before, before), timeout_s=120)


def restarts(models: ModelNamespace, pod: str) -> int:
    """How often the kubelet started that pod of the operator again."""
    [container] = models.installation.list_operator_pods()[pod]["status"]["containerStatuses"]
    return int(container["restartCount"])


def of_models(models: ModelNamespace) -> list[str]:
    """Return objects of models, without models' names, digests, and what Kubernetes appends."""
    return sorted(
        re.sub(r"calm|shook", "x", re.sub(r"-[0-9a-z]*\d[0-9a-z]*|-[a-z]{5}$", "", _cut(n)))
        for n in list_made_objects(models.kubectl)
    )


def _cut(name: str) -> str:
    """Return the name of a revision without its digest, which the model's name is part of."""
    return re.sub(r"\.[0-9a-f]{10}$", "", name)
