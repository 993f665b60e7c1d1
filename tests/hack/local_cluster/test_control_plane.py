"""A real API server with controllers: what the operator's tests stand on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from e2e.fixtures import start_or_skip
from hack.local_cluster import Options, wait_until
from hack.local_cluster.errors import ComponentDied, KubectlFailed, NotOurs
from hack.local_cluster.processes import process_name
from tests.hack.local_cluster.starter import assert_dead, start_in_another_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hack.local_cluster import Cluster, Kubectl, Object

pytestmark = pytest.mark.cluster

SIZE_RULE = {"rule": "self.size <= 8", "message": "size is at most 8"}
WIDGETS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.test.llmjp.dev"},
    "spec": {
        "group": "test.llmjp.dev",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "size": {"type": "integer", "default": 1},
                                    "colour": {"type": "string"},
                                },
                                "x-kubernetes-validations": [SIZE_RULE],
                            },
                            "status": {
                                "type": "object",
                                "properties": {"phase": {"type": "string"}},
                            },
                        },
                    }
                },
            }
        ],
    },
}


def widget(**spec: object) -> Object:
    return {
        "apiVersion": "test.llmjp.dev/v1",
        "kind": "Widget",
        "metadata": {"name": "a"},
        "spec": spec,
    }


@pytest.fixture(scope="module")
def widgets(control_plane: Cluster) -> Iterator[None]:
    control_plane.kubectl.apply(WIDGETS)
    control_plane.kubectl.wait(f"crd/{WIDGETS['metadata']['name']}", "condition=Established")
    yield
    control_plane.kubectl("delete", "crd", WIDGETS["metadata"]["name"])


@pytest.mark.usefixtures("widgets")
def test_server_side_apply_defaults_merges_and_names_owners(namespace: Kubectl) -> None:
    (stored,) = namespace.apply(widget(colour="red"))
    assert stored["spec"] == {"colour": "red", "size": 1}
    owners = namespace.get("widget", "a", "--show-managed-fields")["metadata"]["managedFields"]
    assert [owner["manager"] for owner in owners] == ["llmjp-e2e"]

    other = ("apply", "--server-side", "--field-manager=other", "--filename=-")
    with pytest.raises(KubectlFailed, match=r'conflict with "llmjp-e2e"'):
        namespace(*other, stdin=json.dumps(widget(colour="blue")))
    namespace(*other, stdin=json.dumps(widget(size=3)))
    assert namespace.get("widget", "a")["spec"] == {"colour": "red", "size": 3}


@pytest.mark.usefixtures("widgets")
def test_a_rule_of_the_crd_refuses_with_its_sentence(namespace: Kubectl) -> None:
    with pytest.raises(KubectlFailed, match="size is at most 8"):
        namespace.apply(widget(size=9))
    assert namespace.get("widgets")["items"] == []


@pytest.mark.usefixtures("widgets")
def test_a_watch_sees_changes_in_order(namespace: Kubectl) -> None:
    columns = "--output-watch-events=true", "--output=jsonpath={.type}/{.object.spec.size} "
    command = namespace.command("get", "widgets", "--watch", *columns)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        for size in (1, 2):
            namespace.apply(widget(size=size))
        namespace("delete", "widget", "a")
        seen = ""
        while "DELETED" not in seen:
            seen += watch.stdout.read(1)
        watch.terminate()
    assert seen.split() == ["ADDED/1", "MODIFIED/2", "DELETED"]


def test_controllers_run_and_statuses_can_be_played(namespace: Kubectl) -> None:
    """A Job's pod appears; its end is played as a kubelet would report it; the Job completes."""
    container = {"name": "main", "image": "none"}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "build"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
    namespace.apply(job)

    def pods() -> tuple[bool, object]:
        names = [item["metadata"]["name"] for item in namespace.get("pods")["items"]]
        return bool(names), names

    wait_until("the Job's pod", pods)
    (pod,) = namespace.get("pods")["items"]
    namespace.patch_status(f"pod/{pod['metadata']['name']}", {"phase": "Succeeded"})
    namespace.wait("job/build", "condition=Complete")


def test_a_control_plane_has_no_node_to_touch(control_plane: Cluster, tmp_path: Path) -> None:
    if control_plane.folder is None:
        pytest.skip("runs on somebody else's cluster")
    with pytest.raises(NotOurs):
        control_plane.import_image(tmp_path / "x.tar")
    with pytest.raises(NotOurs):
        control_plane.pretend_gpus(1, product="x", compute_capability="9.0")


def test_two_clusters_are_two_and_a_dead_component_is_named(
    control_plane: Cluster, tmp_path: Path
) -> None:
    with start_or_skip("control-plane", Options(logs=tmp_path)) as second:
        second.kubectl("create", "namespace", "only-here")
        found = control_plane.kubectl("get", "namespace", "only-here", "--ignore-not-found")
        assert found == ""

        processes = second.processes()
        etcd = next(pid for pid in processes if process_name(pid) == "etcd")
        os.kill(etcd, signal.SIGKILL)
        wait_until("the cluster ends", lambda: (second.ended(), processes))
        with pytest.raises(ComponentDied, match=r"etcd was killed by SIGKILL: .*etcd\.log"):
            second.check()
        assert_dead(processes)
    assert (tmp_path / "apiserver.log").stat().st_size > 0
    assert control_plane.kubectl("get", "--raw=/readyz") == "ok"


def test_a_killed_starter_leaves_nothing() -> None:
    starter = start_in_another_process("control-plane")
    processes = starter.processes()
    assert {"etcd", "kube-apiserver", "kube-controller-manager"} <= set(processes.values())
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait_until_slot_is_free()
    assert_dead(processes)
    assert not starter.folder.exists()
