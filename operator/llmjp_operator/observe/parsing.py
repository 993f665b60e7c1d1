"""Parsing of Kubernetes objects. Pure; a missing field counts as empty."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from llmjp_operator.names import (
    ATTEMPT,
    COMPONENT,
    FAILED_ROLLOUT,
    FROM_CHECKPOINT,
    GPU,
    KEY_LABEL,
    MODEL_LABEL,
    POD_DIGEST,
    REQUEST_LABEL,
    UNTIL,
)
from llmjp_operator.observe.revision import pack_template
from llmjp_operator.observe.snapshot import (
    MAIN_CONTAINERS,
    ObservedClaim,
    ObservedDeployment,
    ObservedJob,
    ObservedNode,
    ObservedPod,
    Termination,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Object = dict[str, Any]

_MAX_WORDS: Final = 600
"""Characters of an event's or a condition's message that are kept."""
_JOB_LABEL = "batch.kubernetes.io/controller-uid"
_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
_ROLLED_OUT = "NewReplicaSetAvailable"
_DISRUPTIONS = {"DisruptionTarget"}
"""Pod conditions of evictions, preemptions and lost nodes
(kubernetes.io/docs/concepts/workloads/pods/disruptions)."""
_STARTING_REASONS = {"ContainerCreating", "PodInitializing"}
"""Waiting reasons that are no problem."""


def parse_pod(pod: Mapping[str, Any]) -> ObservedPod:
    """Parse a pod of ours."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    component = labels.get(COMPONENT, "")
    main = _find_main_container(status, component)
    return ObservedPod(
        name=metadata["name"],
        component=component,
        model=labels.get(MODEL_LABEL, ""),
        job=labels.get(_JOB_LABEL, ""),
        key=labels.get(KEY_LABEL, ""),
        phase=status.get("phase", ""),
        ready=_find_condition(status, "Ready").get("status") == "True",
        deleting="deletionTimestamp" in metadata,
        node=(pod.get("spec") or {}).get("nodeName", ""),
        waiting=_find_waiting_reason(status, main),
        restarts=main.get("restartCount", 0),
        termination=_find_termination(main),
        evicted=status.get("reason") == "Evicted"
        or any(_find_condition(status, name).get("status") == "True" for name in _DISRUPTIONS),
        uid=metadata.get("uid", ""),
    )


def parse_job(job: Mapping[str, Any]) -> ObservedJob:
    """Parse a Job of ours."""
    metadata, status = job["metadata"], job.get("status") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    failed, complete = _find_condition(status, "Failed"), _find_condition(status, "Complete")
    attempt = annotations.get(ATTEMPT, "")
    return ObservedJob(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        component=labels.get(COMPONENT, ""),
        model=labels.get(MODEL_LABEL, ""),
        request=labels.get(REQUEST_LABEL, ""),
        pods=annotations.get(POD_DIGEST, ""),
        until_checkpoint=annotations.get(UNTIL) == "checkpoint",
        checkpoint=annotations.get(FROM_CHECKPOINT, ""),
        attempt=int(attempt) if attempt.isdecimal() else 1,
        owners=_parse_owners(metadata),
        succeeded=complete.get("status") == "True",
        failed=failed.get("status") == "True",
        failure_reason=failed.get("reason", ""),
        finished_at=_parse_time((failed or complete).get("lastTransitionTime")),
        deleting="deletionTimestamp" in metadata,
        created_at=_parse_time(metadata.get("creationTimestamp")),
    )


def parse_deployment(
    deployment: Mapping[str, Any], applied: Mapping[str, Any] | None = None
) -> ObservedDeployment:
    """Parse the Deployment of a model; `applied` is what of it we applied."""
    metadata, spec = deployment["metadata"], deployment.get("spec") or {}
    status, annotations = deployment.get("status") or {}, metadata.get("annotations") or {}
    progressing = _find_condition(status, "Progressing")
    refused = _find_condition(status, "ReplicaFailure")
    template = (spec.get("template") or {}).get("metadata") or {}
    ours = ((applied or {}).get("spec") or {}).get("template")
    stalled = (
        progressing.get("status") == "False" and progressing.get("reason") == _DEADLINE_EXCEEDED
    )
    return ObservedDeployment(
        uid=metadata.get("uid", ""),
        owners=_parse_owners(metadata),
        observed=status.get("observedGeneration", 0) >= metadata.get("generation", 1),
        key=(template.get("labels") or {}).get(KEY_LABEL, ""),
        pods=annotations.get(POD_DIGEST, ""),
        failed_rollout=annotations.get(FAILED_ROLLOUT, ""),
        wanted=spec.get("replicas", 1),
        replicas=status.get("replicas", 0),
        updated=status.get("updatedReplicas", 0),
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
        stalled=progressing.get("message", _DEADLINE_EXCEEDED) if stalled else "",
        refused=_describe(refused) if refused.get("status") == "True" else "",
        template=pack_template(ours) if ours else b"",
        rolled_out=progressing.get("reason") == _ROLLED_OUT,
        deadline_s=int(spec.get("progressDeadlineSeconds") or 600),
    )


def parse_claim(claim: Mapping[str, Any]) -> ObservedClaim:
    """Parse a PersistentVolumeClaim."""
    metadata, spec = claim["metadata"], claim.get("spec") or {}
    status = claim.get("status") or {}
    return ObservedClaim(
        name=metadata["name"],
        access_modes=tuple(status.get("accessModes") or spec.get("accessModes") or ()),
        uid=metadata.get("uid", ""),
        created_at=_parse_time(metadata.get("creationTimestamp")),
        deleting="deletionTimestamp" in metadata,
    )


def parse_node(node: Mapping[str, Any]) -> ObservedNode:
    """Parse a node."""
    status, spec = node.get("status") or {}, node.get("spec") or {}
    gpus = str((status.get("allocatable") or {}).get(GPU, "0"))
    return ObservedNode(
        name=node["metadata"]["name"],
        labels=node["metadata"].get("labels") or {},
        gpus=int(gpus) if gpus.isdecimal() else 0,
        schedulable=not spec.get("unschedulable", False),
    )


def parse_warning(events: Iterable[Mapping[str, Any]]) -> str:
    """Return reason and message of an object's latest event if it is a warning; otherwise empty.

    What a later event of type Normal followed, such as `Pulling`, is over. Of two in the same
    second the warning counts: most times are whole seconds.
    """
    ordered = sorted(events, key=lambda e: (_find_event_time(e), e.get("type") == "Warning"))
    latest = ordered[-1] if ordered else {}
    return _describe(latest) if latest.get("type") == "Warning" else ""


def _find_event_time(event: Mapping[str, Any]) -> float:
    """Return when an event was last seen; events of the two APIs say it in different fields."""
    series = event.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )
    seconds = _parse_time(next(filter(None, times), None))
    return 0.0 if seconds is None else float(int(seconds))


def _describe(told: Mapping[str, Any]) -> str:
    """Return reason and message of a condition or an event, on one line."""
    message = " ".join(str(told.get("message") or "").split())[:_MAX_WORDS]
    return f"{told.get('reason') or 'Unknown'}: {message}".rstrip(": ")


def _parse_owners(metadata: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(o.get("uid", "") for o in metadata.get("ownerReferences") or ())


def _find_condition(status: Mapping[str, Any], kind: str) -> Object:
    found = (c for c in status.get("conditions") or () if c.get("type") == kind)
    return next(found, {})


def _find_main_container(status: Mapping[str, Any], component: str) -> Object:
    """Return the status of the main container; empty if there is none."""
    name = MAIN_CONTAINERS.get(component, "builder")
    found = (c for c in status.get("containerStatuses") or () if c.get("name") == name)
    return next(found, {})


def _parse_time(time: str | None) -> float | None:
    """Parse a time of RFC 3339, as Kubernetes writes it, to seconds since 1970."""
    return None if time is None else datetime.fromisoformat(time).timestamp()


def _find_termination(container: Object) -> Termination | None:
    for when in ("state", "lastState"):
        if (termination := (container.get(when) or {}).get("terminated")) is not None:
            return Termination(
                exit_code=termination.get("exitCode", 0),
                reason=termination.get("reason", ""),
                message=termination.get("message", ""),
            )
    return None


def _find_waiting_reason(status: Mapping[str, Any], main: Object) -> str:
    """Return why a pod does not run: it is not scheduled, or a container cannot start."""
    scheduled = _find_condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', 'Unschedulable')}: {scheduled.get('message', '')}"
    others = (
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    )
    for container in (main, *others):
        state = (container.get("state") or {}).get("waiting") or {}
        reason = state.get("reason", "")
        if reason and reason not in _STARTING_REASONS:
            return f"{reason}: {state.get('message', '')}".rstrip(": ")
    return ""
