"""The rules of `spec.serving`, likewise."""

from __future__ import annotations

from tests.operator.crd.rule_case import (
    ACCOUNT,
    GPU,
    HOST,
    RESTRICTED,
    RuleCase,
    container,
    engine,
    pod,
    serving,
)
from tests.operator.model_bodies import Object


def sidecar(context: dict[str, object]) -> Object:
    return pod(containers=[{"name": "proxy", "image": "proxy:1", "securityContext": context}])


SERVING = (
    RuleCase(
        "spec.serving.resources.limits",
        GPU,
        serving(resources={"limits": {"memory": "64Gi"}}),
        serving(resources={"limits": {"nvidia.com/gpu": 8}}),
    ),
    RuleCase(
        "spec.serving.kvCacheFraction",
        "backend torch sizes its KV cache by maxBatchSize and maxSeqLen: leave kvCacheFraction out",
        serving(kvCacheFraction=0.8),
        engine(backend="torch") | serving(kvCacheFraction=0.8),
    ),
    RuleCase(
        "spec.serving.tls.secretName",
        "must be the name of a Secret, or empty",
        serving(tls={"secretName": ""}),
        serving(tls={"secretName": "TLS"}),
    ),
    *(
        RuleCase(
            f"spec.serving.podTemplate.metadata.{kind}",
            "keys of serving.llmjp.dev and app.kubernetes.io are the operator's",
            serving(podTemplate={"metadata": {kind: {"example.com/team": "ml"}}}),
            serving(podTemplate={"metadata": {kind: {"serving.llmjp.dev/model": "b"}}}),
        )
        for kind in ("labels", "annotations")
    ),
    RuleCase(
        "spec.serving.podTemplate.spec.containers[0]",
        "the container triton takes env, envFrom and volumeMounts only: the rest is the operator's "
        "(its resources are spec.serving.resources)",
        container(env=[{"name": "NCCL_DEBUG", "value": "INFO"}]),
        container(image="example.com/mine"),
    ),
    *(
        RuleCase(
            f"spec.serving.podTemplate.spec.containers[0].securityContext.{name}",
            RESTRICTED,
            sidecar({"runAsUser": 1337, name: not raised}),
            sidecar({name: raised}),
        )
        for name, raised in (
            ("privileged", True),
            ("allowPrivilegeEscalation", True),
            ("runAsNonRoot", False),
        )
    ),
    RuleCase(
        "spec.serving.podTemplate.spec.containers[0].securityContext.procMount",
        f"procMount {RESTRICTED}",
        sidecar({"runAsUser": 1}),
        sidecar({"procMount": "Unmasked"}),
    ),
    RuleCase(
        "spec.serving.podTemplate.spec.volumes[0].hostPath",
        f"hostPath {HOST}",
        pod(volumes=[{"name": "certificates", "secret": {"secretName": "ca"}}]),
        pod(volumes=[{"name": "root", "hostPath": {"path": "/"}}]),
    ),
    *(
        RuleCase(
            f"spec.serving.podTemplate.spec.{name}",
            f"{name} {reason}",
            pod(priorityClassName="high", affinity={"nodeAffinity": {}}, runtimeClassName="nvidia"),
            pod(**{name: value}),
        )
        for name, value, reason in (
            ("hostNetwork", True, HOST),
            ("hostPID", True, HOST),
            ("hostIPC", True, HOST),
            ("hostUsers", True, HOST),
            ("nodeName", "n1", "must be left out: it bypasses the scheduler; use nodeSelector"),
            ("serviceAccountName", "admin", ACCOUNT),
            ("serviceAccount", "admin", ACCOUNT),
            ("automountServiceAccountToken", True, ACCOUNT),
            ("nodeSelector", {}, "must be left out: spec.serving.nodeSelector is the place"),
            ("tolerations", [], "must be left out: spec.serving.tolerations is the place"),
            (
                "terminationGracePeriodSeconds",
                0,
                "must be left out: it follows from spec.serving.drainSeconds",
            ),
            ("restartPolicy", "Never", "must be left out: pods of a Deployment always restart"),
        )
    ),
    *(
        RuleCase(
            f"spec.serving.podTemplate.spec.securityContext.{name}",
            f"{name} {RESTRICTED}",
            pod(securityContext={"fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"}),
            pod(securityContext={name: value}),
        )
        for name, value in (
            ("runAsUser", 0),
            ("runAsGroup", 0),
            ("runAsNonRoot", False),
            ("seccompProfile", {"type": "Unconfined"}),
            ("sysctls", []),
        )
    ),
)
