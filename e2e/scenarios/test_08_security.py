"""Secrets stay secret, pods have no rights, and users have those that they were given."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from e2e.stage import RELEASE, SYSTEM
from hack.local_cluster.errors import KubectlFailed

if TYPE_CHECKING:
    from e2e.place import Place

pytestmark = pytest.mark.cluster

TOKEN = "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"


def test_a_token_is_seen_by_nobody(place: Place) -> None:
    place.kubectl("create", "secret", "generic", "hf-token", f"--from-literal=token={TOKEN}")
    hub = {
        "repository": "example/tiny",
        "endpoint": "http://127.0.0.1:9",
        "tokenSecretRef": {"name": "hf-token"},
    }
    model = place.tiny(source={"persistentVolumeClaim": None, "huggingFace": hub})
    model["spec"]["build"]["backoffLimit"] = 0
    place.apply(model)
    place.wait_for_reason("EngineReady", "ResolveFailed")

    system = place.stage.kubectl.within(SYSTEM)
    seen = {
        "objects": place.kubectl("get", "ljm,pods,jobs,events,configmaps", "--output=yaml"),
        "log of the Job": place.kubectl("logs", "--selector=app.kubernetes.io/component=resolve"),
        "log of the operator": system("logs", f"deploy/{RELEASE}"),
        "command lines": _command_lines(),
    }
    assert [where for where, text in seen.items() if TOKEN in text] == []


def _command_lines() -> str:
    return subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout


def test_pods_pass_restricted_admission(place: Place) -> None:
    level = "pod-security.kubernetes.io/enforce=restricted"
    place.kubectl("label", "namespace", place.namespace, level)
    place.apply(place.tiny())
    place.wait_for_phase("Serving")
    [pod] = place.serving_pods()
    assert pod["spec"]["automountServiceAccountToken"] is False
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    assert not [m for m in mounts if "serviceaccount" in m["mountPath"]]
    [store] = [m for m in mounts if m["name"] == "store"]
    assert store["readOnly"] is True


def test_network_policies_say_who_may_talk(place: Place) -> None:
    """The node enforces none (hack/local_cluster/README.md): only the objects are checked."""
    place.apply(place.tiny())
    place.wait_for_phase("Serving")
    policy = place.kubectl.get("networkpolicy", "llmjp-tiny-cpu")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy, "what serves talks to nobody"
    ports = {p["port"] for rule in policy["ingress"] for p in rule["ports"]}
    assert ports == {8000, 8001, 8002}
    assert all(rule["from"] for rule in policy["ingress"])
    build = place.kubectl.get("networkpolicy", "llmjp-tiny-cpu-build")["spec"]
    assert "ingress" not in build, "nobody talks to what builds"
    assert [rule["ports"][0]["port"] for rule in build["egress"]] == [53], (
        "a volume needs no way out"
    )


def test_who_only_looks_cannot_create(place: Place) -> None:
    place.kubectl("create", "serviceaccount", "looker")
    place.kubectl("create", "serviceaccount", "editor")
    for name, role in (("looker", "view"), ("editor", "edit")):
        account = f"--serviceaccount={place.namespace}:{name}"
        place.kubectl("create", "rolebinding", name, f"--clusterrole={role}", account)
    text = json.dumps(place.tiny())
    looker = f"--as=system:serviceaccount:{place.namespace}:looker"
    place.kubectl("get", "ljm", looker)
    with pytest.raises(KubectlFailed, match="forbidden"):
        place.kubectl("create", "--filename=-", looker, stdin=text)
    editor = f"--as=system:serviceaccount:{place.namespace}:editor"
    place.kubectl("create", "--filename=-", "--dry-run=server", editor, stdin=text)
