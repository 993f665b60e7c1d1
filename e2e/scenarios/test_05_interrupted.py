"""The operator is killed at each of its writes, and its API server misbehaves: it all converges.

On a control plane without nodes, with fake kubelets (e2e/fake_kubelet.py).
"""

from __future__ import annotations

import secrets
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from e2e.api_faults import ApiFaults, faulty_api_server, start_operator, write_kubeconfig
from e2e.fake_kubelet import FakeKubelets
from e2e.harness.namespace import OBJECTS, list_made_objects
from hack.local_cluster.kubectl import wait_until
from llmjp_operator.crd.definition import build_definition
from llmjp_operator.names import CRD
from tests.support.soak import count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hack.local_cluster import Cluster, Kubectl

pytestmark = pytest.mark.cluster

MODEL: dict[str, Any] = {
    "apiVersion": "serving.llmjp.dev/v1alpha1",
    "kind": "LlmJpModel",
    "metadata": {"name": "a"},
    "spec": {
        "source": {"huggingFace": {"repository": "example/llama"}},
        "engine": {"backend": "torch", "maxSeqLen": 512},
        "storage": {"size": "1Gi", "onDelete": "Delete"},
    },
}


@dataclass
class Bad:
    """A namespace whose operator sees its API server through a bad network."""

    kubectl: Kubectl
    faults: ApiFaults
    folder: Path
    config: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = start_operator(self.folder, self.config, self.kubectl.namespace)
        self.faults.victim = self.process.pid

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=30)

    def story(self) -> list[str]:
        """A model is made, changed, and changed back; what is there in the end."""
        self.settles("made")
        self._changes(2)
        self._changes(1)
        return list_made_objects(self.kubectl, OBJECTS)

    def _changes(self, ranks: int) -> None:
        patch = f'{{"spec":{{"engine":{{"tensorParallel":{ranks}}}}}}}'
        self.kubectl("patch", "ljm", "a", "--type=merge", f"--patch={patch}")
        self.settles(f"changed to {ranks} ranks")

    def settles(self, what: str) -> None:
        """It serves, as the spec is now."""

        def look() -> tuple[bool, object]:
            if self.process is not None and self.process.poll() is not None:
                self.start()  # as Kubernetes would
            model = self.kubectl.get("ljm", "a")
            status = model.get("status") or {}
            current = status.get("observedGeneration") == model["metadata"]["generation"]
            return current and status.get("phase") == "Serving", status

        wait_until(what, look, timeout_s=120)


@contextmanager
def bad(plane: Cluster, folder: Path, faults: ApiFaults) -> Iterator[Bad]:
    """With a model that nobody has looked at yet."""
    name = f"bad-{secrets.token_hex(3)}"
    plane.kubectl("create", "namespace", name)
    kubectl = plane.kubectl.within(name)
    kubectl.apply(MODEL)
    with faulty_api_server(plane.kubectl, faults) as address:
        case = Bad(kubectl, faults, folder, write_kubeconfig(folder, address))
        try:
            case.start()
            yield case
        finally:
            case.stop()
            plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def plane(control_plane: Cluster) -> Iterator[Cluster]:
    control_plane.kubectl.apply(build_definition())
    control_plane.kubectl.wait(f"crd/{CRD}", "condition=Established")
    with FakeKubelets(control_plane.kubeconfig):
        yield control_plane


@pytest.fixture(scope="module")
def undisturbed(plane: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], int]:
    """The objects in the end, and how many writes they took."""
    faults = ApiFaults()
    with bad(plane, tmp_path_factory.mktemp("undisturbed"), faults) as case:
        return case.story(), len(faults.writes)


MOMENTS = count(8, 200)
"""Writes at which the operator is killed; in `make soak` all of them."""


def test_killed_at_its_writes(
    plane: Cluster, undisturbed: tuple[list[str], int], tmp_path: Path
) -> None:
    expected, writes = undisturbed
    assert writes > 20
    moments = range(1, writes, max(1, writes // MOMENTS))
    killed = 0
    for moment in moments:
        folder = tmp_path / str(moment)
        folder.mkdir()
        faults = ApiFaults(kill_after=moment)
        with bad(plane, folder, faults) as case:
            assert case.story() == expected, f"killed at write {moment}"
        killed += faults.kill_after is None
        assert builds(faults) == 2, f"killed at write {moment}: a second build of the same"

    # How many writes there are differs by a few: the last moments may never come.
    assert killed > 0.8 * len(moments)


def builds(faults: ApiFaults) -> int:
    """Build Jobs that were made: applied, and not known before."""
    return len({w for w in faults.writes if w.startswith("PATCH") and "/jobs/ljm-build-" in w})


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param({"errors": (409, 429, 500)}, id="errors"),
        pytest.param({"watch_s": 1.0}, id="cut watches"),
        pytest.param({"watch_s": 0.7, "expired": True}, id="watches too old"),
        pytest.param({"errors": (500,), "every": 4, "watch_s": 1.5}, id="all at once"),
    ],
)
def test_an_api_server_that_misbehaves(
    plane: Cluster, undisturbed: tuple[list[str], int], tmp_path: Path, faults: dict[str, Any]
) -> None:
    expected, _ = undisturbed
    with bad(plane, tmp_path, ApiFaults(**faults)) as case:
        assert case.story() == expected
        assert builds(case.faults) == 2


def test_a_watch_that_kopf_gives_up(
    plane: Cluster, undisturbed: tuple[list[str], int], tmp_path: Path
) -> None:
    """The process ends, even where kopf gets stuck; the next one goes on where it was."""
    expected, _ = undisturbed
    with bad(plane, tmp_path, ApiFaults(refused=True)) as case:
        for _ in range(4):
            process = case.process
            assert process is not None
            wait_until("it ends", lambda p=process: (p.poll() is not None, p.pid))  # type: ignore[misc]
            assert process.returncode in {1, -9}
            case.start()
        case.faults.refused = False
        assert case.story() == expected


def test_the_definition_goes_and_comes_back(plane: Cluster, tmp_path: Path) -> None:
    """All models go with it, and what was made for them; the operator stays, and sees new ones."""
    with bad(plane, tmp_path, ApiFaults()) as case:
        case.settles("made")
        plane.kubectl("delete", "crd", CRD, "--timeout=60s")

        def collected() -> tuple[bool, object]:
            left = list_made_objects(case.kubectl, "deployments,jobs")
            return not left, left

        wait_until("all is gone", collected)
        plane.kubectl.apply(build_definition())
        plane.kubectl.wait(f"crd/{CRD}", "condition=Established")
        case.kubectl.apply(MODEL)
        case.settles("made again")
        assert case.process is not None
        assert case.process.poll() is None, "it was not started again"
