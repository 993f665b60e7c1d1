"""The engine changes while ten programs stream; nobody notices. Then it changes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.load import Load
from hack.local_cluster.kubectl import wait_until

if TYPE_CHECKING:
    from e2e.harness.namespace import ModelNamespace

pytestmark = pytest.mark.cluster


def test_no_request_fails_while_the_engine_changes(models: ModelNamespace) -> None:
    models.apply(models.render_example())
    old = models.wait_for_phase("Serving")["engine"]["active"]

    with Load(models.get_address(), streams=10) as load:
        wait_until("load", lambda: (load.finished >= 10, load.finished))
        models.patch_spec("llmjp-tiny-cpu", {"engine": {"tensorParallel": 2}})

        # The old key serves until a pod of the new one is ready.
        models.wait_for_reason("Progressing", "RollingOut")
        assert models.get_status()["engine"]["active"] == old

        status = models.wait_for_phase("Serving")
        new = status["engine"]["active"]
        assert new != old
        assert status["engine"]["previous"] == old

        # Load goes on until the old pod has drained and is gone.
        def alone() -> tuple[bool, object]:
            pods = len(models.list_serving_pods())
            return pods == 1, pods

        wait_until("the old pod is gone", alone, timeout_s=120)
        seen = load.finished
        wait_until("load on the new pod", lambda: (load.finished >= seen + 20, load.finished))
    assert load.errors == []
    assert load.finished > 40

    # Back by editing: the artefact is there, nothing is built.
    jobs = models.list_jobs()
    models.patch_spec("llmjp-tiny-cpu", {"engine": {"tensorParallel": 1}})
    status = models.wait_for_phase("Serving")
    assert status["engine"]["active"] == old
    assert status["engine"]["cacheHit"] is True
    assert models.list_jobs() == jobs
