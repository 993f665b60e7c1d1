"""Secrets stay secret, pods have no rights, and users have those that they were given."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from e2e.harness.installation import RELEASE, SYSTEM
from hack.local_cluster.errors import KubectlFailed

if TYPE_CHECKING:
    from e2e.harness.namespace import ModelNamespace

pytestmark = pytest.mark.cluster

TOKEN = "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"


def test_a_token_is_seen_by_nobody(models: ModelNamespace) -> None:
    models.kubectl("create", "secret", "generic", "hf-token", f"--from-literal=token={TOKEN}")
    hub = {
        "repository": "example/tiny",
        "endpoint": "http://127.0.0.1:9",
        "tokenSecretRef": {"name": "hf-token"},
    }
    model = models.render_example(source={"persistentVolumeClaim": None, "huggingFace": hub})
    model["spec"]["build"]["backoffLimit"] = 0
    models.apply(model)
    models.wait_for_reason("EngineReady", "ResolveFailed")

    system = models.installation.kubectl.within(SYSTEM)
    seen = {
        "objects": models.kubectl("get", "ljm,pods,jobs,events,configmaps", "--output=yaml"),
        "log of the Job": models.kubectl("logs", "--selector=app.kubernetes.io/component=resolve"),
        "log of the operator": system("logs", f"deploy/{RELEASE}"),
        "command lines": _command_lines(),
    }
    assert [where for where, text in seen.items() if TOKEN in text] == []


def _command_lines() -> str:
    return subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout


def test_pods_pass_restricted_admission(models: ModelNamespace) -> None:
    level = "pod-security.kubernetes.io/enforce=restricted"
    models.kubectl("label", "namespace", models.name, level)
    models.apply(models.render_example())
    models.wait_for_phase("Serving")
    [pod] = models.list_serving_pods()
    assert pod["spec"]["automountServiceAccountToken"] is False
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    assert not [m for m in mounts if "serviceaccount" in m["mountPath"]]
    [store] = [m for m in mounts if m["name"] == "store"]
    assert store["readOnly"] is True


def test_network_policies_say_who_may_talk(models: ModelNamespace) -> None:
    """The node enforces none (hack/local_cluster/README.md): only the objects are checked."""
    models.apply(models.render_example())
    models.wait_for_phase("Serving")
    policy = models.kubectl.get("networkpolicy", "llmjp-tiny-cpu")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy, "what serves talks to nobody"
    ports = {p["port"] for rule in policy["ingress"] for p in rule["ports"]}
    assert ports == {8000, 8001, 8002}
    assert all(rule["from"] for rule in policy["ingress"])
    build = models.kubectl.get("networkpolicy", "llmjp-tiny-cpu.build")["spec"]
    assert "ingress" not in build, "nobody talks to what builds"
    assert [rule["ports"][0]["port"] for rule in build["egress"]] == [53], (
        "a volume needs no way out"
    )


def test_who_only_looks_cannot_create(models: ModelNamespace) -> None:
    models.kubectl("create", "serviceaccount", "looker")
    models.kubectl("create", "serviceaccount", "editor")
    for name, role in (("looker", "view"), ("editor", "edit")):
        account = f"--serviceaccount={models.name}:{name}"
        models.kubectl("create", "rolebinding", name, f"--clusterrole={role}", account)
    text = json.dumps(models.render_example())
    looker = f"--as=system:serviceaccount:{models.name}:looker"
    models.kubectl("get", "ljm", looker)
    with pytest.raises(KubectlFailed, match="forbidden"):
        models.kubectl("create", "--filename=-", looker, stdin=text)
    editor = f"--as=system:serviceaccount:{models.name}:editor"
    models.kubectl("create", "--filename=-", "--dry-run=server", editor, stdin=text)
