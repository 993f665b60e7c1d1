"""A namespace with models in it: apply them, change them, wait for what they become."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from e2e.harness.installation import READY_S, USER, give_to_pods
from hack.local_cluster.errors import KubectlFailed
from hack.local_cluster.kubectl import wait_until
from hack.local_images.recipes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from e2e.harness.installation import Installation
    from hack.local_cluster import Kubectl

Object = dict[str, Any]

SOURCE: Final = "llmjp-tiny"
"""Name of the claim with the checkpoint."""
CHECKPOINT: Final = ROOT / "examples" / "tiny-model" / "checkpoint"
MANIFEST: Final = ROOT / "manifests" / "llmjp-tiny-cpu.yaml"
OBJECTS: Final = (
    "deployments,jobs,services,serviceaccounts,poddisruptionbudgets,"
    "networkpolicies.networking.k8s.io,persistentvolumeclaims,configmaps,controllerrevisions"
)
"""Kinds that the operator makes itself."""
WITH_PODS: Final = f"{OBJECTS},replicasets,pods"
"""Those, and what Kubernetes makes of them."""
QUESTION: Final = "日本の首都はどこですか。"
ANSWER: Final = "日本の首都は東京です。"


def list_made_objects(kubectl: Kubectl, kinds: str = WITH_PODS) -> list[str]:
    """Return the objects of all models, as Kind/name."""
    found = kubectl.get(kinds, "--selector=app.kubernetes.io/managed-by=llmjp-operator")["items"]
    return sorted(f"{o['kind']}/{o['metadata']['name']}" for o in found)


@dataclass
class ModelNamespace:
    """One namespace."""

    installation: Installation
    kubectl: Kubectl

    @property
    def name(self) -> str:
        """Name of the namespace."""
        return self.kubectl.namespace

    def put_checkpoint(self) -> Path:
        """Put the example checkpoint on the claim `llmjp-tiny`; return the volume's folder."""
        folder = self.installation.create_volume(self.kubectl, SOURCE, make=True)
        shutil.copytree(CHECKPOINT, folder / "checkpoint")
        give_to_pods(folder)
        return folder

    def render_sender_pod(self, claim: str) -> Object:
        """Return a pod that mounts a volume for `kubectl cp`."""
        system = self.installation.kubectl.within("llmjp-system")
        image = system(
            "get", "deployment/llmjp-operator", "--output=jsonpath={..containers[0].image}"
        )
        security = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        container = {
            "name": "sender",
            "image": image,
            "command": ["sleep", "600"],
            "securityContext": security,
            "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
        }
        volume = {"name": "volume", "persistentVolumeClaim": {"claimName": claim}}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "sender"},
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {"fsGroup": USER},
                "containers": [container],
                "volumes": [volume],
            },
        }

    def render_example(self, name: str = "llmjp-tiny-cpu", **changes: Any) -> Object:
        """Return the manifest of the example model, with changes to parts of its spec."""
        model: Object = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
        model["metadata"]["name"] = name
        model["spec"]["serving"]["drainSeconds"] = 20
        for part, values in changes.items():
            model["spec"][part] = {**model["spec"].get(part, {}), **values}
            if any(value is None for value in model["spec"][part].values()):
                kept = {k: v for k, v in model["spec"][part].items() if v is not None}
                model["spec"][part] = kept
        return model

    def apply(self, *objects: Object) -> None:
        """Apply objects; stores get a volume when a model first names them."""
        for model in objects:
            if model["kind"] == "LlmJpModel" and "size" in model["spec"]["storage"]:
                claim = f"{model['metadata']['name']}-store"
                if not (self.installation.volumes_folder / f"{self.name}-{claim}").exists():
                    self.installation.create_volume(self.kubectl, claim)
        self.kubectl.apply(*objects)

    def get_store_folder(self, name: str = "llmjp-tiny-cpu") -> Path:
        """Return the folder behind a model's store."""
        return self.installation.volumes_folder / f"{self.name}-{name}-store"

    def patch_spec(self, name: str, spec: Object) -> None:
        """Edit a part of the spec, with `kubectl patch`."""
        patch = json.dumps({"spec": spec})
        self.kubectl("patch", "ljm", name, "--type=merge", f"--patch={patch}")

    def replace(self, model: Object) -> None:
        """Replace the whole spec, with `kubectl replace`."""
        version = self.get_model(model["metadata"]["name"])["metadata"]["resourceVersion"]
        metadata = {**model["metadata"], "resourceVersion": version}
        text = json.dumps({**model, "metadata": metadata})
        self.kubectl("replace", "--filename=-", stdin=text)

    def get_model(self, name: str = "llmjp-tiny-cpu") -> Object:
        """Return the model as it is."""
        return self.kubectl.get("ljm", name)

    def get_status(self, name: str = "llmjp-tiny-cpu") -> Object:
        """Return the model's status."""
        found: Object = self.get_model(name).get("status") or {}
        return found

    def get_condition(self, kind: str, name: str = "llmjp-tiny-cpu") -> Object:
        """Return one of its conditions; empty where there is none.

        Where another condition tells its reason, the message is that one's.
        """
        conditions = self.get_status(name).get("conditions") or ()
        found: Object = next((c for c in conditions if c["type"] == kind), {})
        same = [
            c["message"]
            for c in conditions
            if c["reason"] == found.get("reason") and "message" in c
        ]
        return {"message": "".join(same[:1]), **found}

    def wait_for(
        self,
        what: str,
        seen: Callable[[Object], bool],
        name: str = "llmjp-tiny-cpu",
        timeout_s: float = READY_S,
    ) -> Object:
        """Wait until the status shows it for the present spec; return the status."""
        last: Object = {}

        def look() -> tuple[bool, object]:
            nonlocal last
            model = self.get_model(name)
            last = model.get("status") or {}
            current = last.get("observedGeneration") == model["metadata"]["generation"]
            return current and seen(last), last

        wait_until(f"{name}: {what}", look, timeout_s=timeout_s)
        return last

    def wait_for_phase(self, phase: str, name: str = "llmjp-tiny-cpu") -> Object:
        """Wait for a phase; return the status."""
        return self.wait_for(f"phase {phase}", lambda s: s.get("phase") == phase, name)

    def wait_for_reason(self, kind: str, reason: str, name: str = "llmjp-tiny-cpu") -> Object:
        """Wait until a condition has a reason; return the condition."""

        def seen(status: Object) -> bool:
            return any(
                c["type"] == kind and c["reason"] == reason for c in status.get("conditions", ())
            )

        self.wait_for(f"{kind} {reason}", seen, name)
        return self.get_condition(kind, name)

    def wait_for_failure(self, code: str, name: str = "llmjp-tiny-cpu") -> Object:
        """Wait until the build failed with a code; return the status."""

        def seen(status: Object) -> bool:
            failure = (status.get("build") or {}).get("failure") or {}
            return bool(failure.get("code") == code)

        return self.wait_for(f"failure {code}", seen, name)

    def list_jobs(self, component: str = "build") -> dict[str, str]:
        """Return the uids of Jobs of that kind, by name."""
        label = f"app.kubernetes.io/component={component}"
        found = self.kubectl.get("jobs", f"--selector={label}")["items"]
        return {job["metadata"]["name"]: job["metadata"]["uid"] for job in found}

    def list_serving_pods(self) -> list[Object]:
        """Return pods that serve, will serve, or are ending."""
        selector = "--selector=app.kubernetes.io/component=serving"
        pods: list[Object] = self.kubectl.get("pods", selector)["items"]
        return pods

    def get_address(self, name: str = "llmjp-tiny-cpu") -> str:
        """Return the address of the Service's gRPC port, as this machine reaches it."""
        service = self.kubectl.get("service", name)
        return f"{service['spec']['clusterIP']}:8001"

    def collect_diagnostics(self) -> str:
        """Return everything that tells why something did not happen."""
        asked = (
            ("get", "ljm,pods,jobs,pvc", "--output=wide"),
            ("get", "ljm", "--output=yaml"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", "--selector=app.kubernetes.io/managed-by=llmjp-operator", "--tail=30"),
        )
        parts = []
        for arguments in asked:
            try:
                parts.append(self.kubectl(*arguments))
            except KubectlFailed as exc:
                parts.append(str(exc))
        try:
            system = self.installation.kubectl.within("llmjp-system")
            parts.append(system("logs", "deploy/llmjp-operator", "--tail=60"))
        except KubectlFailed as exc:
            parts.append(str(exc))
        return "\n".join(parts)
