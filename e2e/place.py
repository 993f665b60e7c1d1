"""One namespace of the stage: models, their pods, and questions about them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from e2e.stage import READY_S, USER, own
from hack.local_cluster.errors import KubectlFailed
from hack.local_cluster.kubectl import wait_until
from hack.local_images.recipes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from e2e.stage import Stage
    from hack.local_cluster import Kubectl

Object = dict[str, Any]

SOURCE: Final = "llmjp-tiny"
"""The claim with the checkpoint."""
CHECKPOINT: Final = ROOT / "examples" / "tiny-model" / "checkpoint"
MANIFEST: Final = ROOT / "manifests" / "llmjp-tiny-cpu.yaml"
OBJECTS: Final = (
    "deployments,jobs,services,serviceaccounts,poddisruptionbudgets,"
    "networkpolicies.networking.k8s.io,persistentvolumeclaims,configmaps"
)
"""What the operator makes itself."""
WITH_PODS: Final = f"{OBJECTS},replicasets,pods"
"""And what Kubernetes makes of that."""
QUESTION: Final = "日本の首都はどこですか。"
ANSWER: Final = "日本の首都は東京です。"


def made(kubectl: Kubectl, kinds: str = WITH_PODS) -> list[str]:
    """What is there of any model, as Kind/name."""
    found = kubectl.get(kinds, "--selector=app.kubernetes.io/managed-by=llmjp-operator")["items"]
    return sorted(f"{o['kind']}/{o['metadata']['name']}" for o in found)


@dataclass
class Place:
    """A namespace."""

    stage: Stage
    kubectl: Kubectl

    @property
    def namespace(self) -> str:
        """Its name."""
        return self.kubectl.namespace

    def put_checkpoint(self) -> Path:
        """The example model's checkpoint on the claim `llmjp-tiny`; the volume's folder."""
        folder = self.stage.volume(self.kubectl, SOURCE, make=True)
        shutil.copytree(CHECKPOINT, folder / "checkpoint")
        own(folder)
        return folder

    def sender(self, claim: str) -> Object:
        """A pod that holds a volume for `kubectl cp`."""
        system = self.stage.kubectl.within("llmjp-system")
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

    def tiny(self, name: str = "llmjp-tiny-cpu", **changes: Any) -> Object:
        """The manifest of the example model, with changes to parts of its spec."""
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
        """`kubectl apply --server-side`; stores get a volume when a model first names them."""
        for model in objects:
            if model["kind"] == "LlmJpModel" and "size" in model["spec"]["storage"]:
                claim = f"{model['metadata']['name']}-store"
                if not (self.stage.folders / f"{self.namespace}-{claim}").exists():
                    self.stage.volume(self.kubectl, claim)
        self.kubectl.apply(*objects)

    def store(self, name: str = "llmjp-tiny-cpu") -> Path:
        """The folder behind a model's store."""
        return self.stage.folders / f"{self.namespace}-{name}-store"

    def change(self, name: str, spec: Object) -> None:
        """`kubectl patch`: a part of the spec is edited."""
        patch = json.dumps({"spec": spec})
        self.kubectl("patch", "ljm", name, "--type=merge", f"--patch={patch}")

    def replace(self, model: Object) -> None:
        """`kubectl replace`: the whole spec is edited."""
        version = self.model(model["metadata"]["name"])["metadata"]["resourceVersion"]
        metadata = {**model["metadata"], "resourceVersion": version}
        text = json.dumps({**model, "metadata": metadata})
        self.kubectl("replace", "--filename=-", stdin=text)

    def model(self, name: str = "llmjp-tiny-cpu") -> Object:
        """The model as it is."""
        return self.kubectl.get("ljm", name)

    def status(self, name: str = "llmjp-tiny-cpu") -> Object:
        """What the operator says of it."""
        found: Object = self.model(name).get("status") or {}
        return found

    def condition(self, kind: str, name: str = "llmjp-tiny-cpu") -> Object:
        """One of its conditions."""
        conditions = self.status(name).get("conditions") or ()
        return next((c for c in conditions if c["type"] == kind), {})

    def wait_for(
        self,
        what: str,
        seen: Callable[[Object], bool],
        name: str = "llmjp-tiny-cpu",
        timeout_s: float = READY_S,
    ) -> Object:
        """Until the status shows it, and is about the present spec; the status."""
        last: Object = {}

        def look() -> tuple[bool, object]:
            nonlocal last
            model = self.model(name)
            last = model.get("status") or {}
            current = last.get("observedGeneration") == model["metadata"]["generation"]
            return current and seen(last), last

        wait_until(f"{name}: {what}", look, timeout_s=timeout_s)
        return last

    def wait_for_phase(self, phase: str, name: str = "llmjp-tiny-cpu") -> Object:
        """Until it is in that phase; the status."""
        return self.wait_for(f"phase {phase}", lambda s: s.get("phase") == phase, name)

    def wait_for_reason(self, kind: str, reason: str, name: str = "llmjp-tiny-cpu") -> Object:
        """Until a condition has that reason; the condition."""

        def seen(status: Object) -> bool:
            return any(
                c["type"] == kind and c["reason"] == reason for c in status.get("conditions", ())
            )

        self.wait_for(f"{kind} {reason}", seen, name)
        return self.condition(kind, name)

    def wait_for_failure(self, code: str, name: str = "llmjp-tiny-cpu") -> Object:
        """Until the build failed in that way; the status."""

        def seen(status: Object) -> bool:
            failure = (status.get("build") or {}).get("failure") or {}
            return bool(failure.get("code") == code)

        return self.wait_for(f"failure {code}", seen, name)

    def jobs(self, component: str = "build") -> dict[str, str]:
        """The uids of Jobs of that kind, by name."""
        label = f"app.kubernetes.io/component={component}"
        found = self.kubectl.get("jobs", f"--selector={label}")["items"]
        return {job["metadata"]["name"]: job["metadata"]["uid"] for job in found}

    def serving_pods(self) -> list[Object]:
        """Pods that serve, or are to serve, or end."""
        selector = "--selector=app.kubernetes.io/component=serving"
        pods: list[Object] = self.kubectl.get("pods", selector)["items"]
        return pods

    def address(self, name: str = "llmjp-tiny-cpu") -> str:
        """Of the Service's gRPC port, as this machine reaches it."""
        service = self.kubectl.get("service", name)
        return f"{service['spec']['clusterIP']}:8001"

    def story(self) -> str:
        """Everything that tells why something did not happen."""
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
            system = self.stage.kubectl.within("llmjp-system")
            parts.append(system("logs", "deploy/llmjp-operator", "--tail=60"))
        except KubectlFailed as exc:
            parts.append(str(exc))
        return "\n".join(parts)
