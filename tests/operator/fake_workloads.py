"""The Job and Deployment controllers and all kubelets, in memory: they do their part at once.

What pods come to is a script's decision, as with `e2e.fake_kubelet`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from e2e.fake_kubelet import succeed
from llmjp_operator.names import COMPONENT, KEY_LABEL, POD_DIGEST
from llmjp_operator.observe.parsing import parse_job, parse_pod
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.fake_api_server import FakeApiServer
from tests.operator.model_bodies import Object

Script = Callable[[Object], Object | None]
"""The status that a pod has next; None leaves it as it is."""

JOB_UID = "batch.kubernetes.io/controller-uid"
FINISHED = {"Succeeded": "Complete", "Failed": "Failed"}
ROLLED_OUT = {
    "type": "Progressing",
    "status": "True",
    "reason": "NewReplicaSetAvailable",
    "message": "it has been rolled out",
}
STALLED = {
    "type": "Progressing",
    "status": "False",
    "reason": "ProgressDeadlineExceeded",
    "message": "it took too long",
}


@dataclass
class FakeWorkloads:
    """Everything that turns Jobs and Deployments into pods, and pods into results."""

    server: FakeApiServer
    script: Script = succeed
    rollouts_stall: bool = True
    """A Deployment whose pods are not ready has exceeded its deadline at once."""
    refused: str = ""
    """Component whose pods cannot be created; what says so is the test's."""
    jobs: dict[str, Object] = field(default_factory=dict)
    """Every Job that was ever seen, by uid."""

    def advance(self, now: float) -> None:
        """Let every Job and Deployment take one step."""
        for ref, body in list(self.server.stored.items()):
            if body["metadata"].get("labels", {}).get(COMPONENT) == self.refused:
                continue
            if ref.kind == "Job":
                self._advance_job(body, now)
            if ref.kind == "Deployment":
                self._advance_deployment(body)

    def _advance_job(self, job: Object, now: float) -> None:
        self.jobs.setdefault(job["metadata"]["uid"], job)
        if parse_job(job).finished:
            return
        pod = self._pod(job["metadata"]["name"], job, {JOB_UID: job["metadata"]["uid"]})
        status = self.script(pod)
        if status is None:
            return
        self.server.put({**pod, "status": status})
        kind = FINISHED.get(status["phase"])
        if kind is not None:
            self.server.put({**job, "status": {"conditions": [_true(kind, now)]}})

    def _advance_deployment(self, deployment: Object) -> None:
        """Start the new pod; once it is ready, or where none fits beside them, end the old ones."""
        metadata, spec = deployment["metadata"], deployment["spec"]
        name = f"{metadata['name']}-{metadata['annotations'][POD_DIGEST]}"
        new = self._pod(name, deployment, {})
        new = self.server.put({**new, "status": self.script(new) or {"phase": "Pending"}})
        works = parse_pod(new).ready
        olds = [ref for ref in self._serving_pods(deployment) if ref.name != f"{name}-0"]
        if works or spec["strategy"]["rollingUpdate"]["maxSurge"] == 0:
            for old in olds:
                self.server.discard(old)
            olds = []
        ready = spec["replicas"] * works + len(olds)
        status = {
            "observedGeneration": metadata["generation"],
            "replicas": spec["replicas"] + len(olds),
            "updatedReplicas": spec["replicas"],
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": [ROLLED_OUT] if works else [STALLED] if self.rollouts_stall else [],
        }
        self.server.put({**deployment, "status": status})

    def _serving_pods(self, deployment: Object) -> Iterator[ObjectRef]:
        for ref, body in self.server.stored.items():
            owners = [o["uid"] for o in body["metadata"].get("ownerReferences", ())]
            if ref.kind == "Pod" and owners == [deployment["metadata"]["uid"]]:
                assert KEY_LABEL in body["metadata"]["labels"]
                yield ref

    def _pod(self, name: str, owner: Object, labels: dict[str, str]) -> Object:
        """Return the pod of a Job or a Deployment; make it if it is not there."""
        ref = ObjectRef("Pod", f"{name}-0")
        if (found := self.server.stored.get(ref)) is not None:
            return found
        template = owner["spec"]["template"]
        metadata = {
            **template["metadata"],
            "name": ref.name,
            "labels": template["metadata"]["labels"] | labels,
            "ownerReferences": [{"kind": owner["kind"], "uid": owner["metadata"]["uid"]}],
        }
        return self.server.put({**template, "kind": "Pod", "metadata": metadata})


def to_rfc3339(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _true(kind: str, now: float) -> Object:
    return {"type": kind, "status": "True", "lastTransitionTime": to_rfc3339(now)}


def only(component: str, status: Object) -> Script:
    """Return a script in which everything goes well but one kind of pod."""

    def script(pod: Object) -> Object | None:
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] == component:
            return status
        return succeed(pod)

    return script
