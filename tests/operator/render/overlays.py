"""Overlays as people may write them into spec.serving.podTemplate, odd spellings included."""

from __future__ import annotations

from typing import Any

from tests.operator.model_bodies import Object

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def pod(**fields: Any) -> Object:
    return {"spec": fields}


def triton(**fields: Any) -> Object:
    return pod(containers=[{"name": "triton", **fields}])


def sidecar(**fields: Any) -> Object:
    return pod(containers=[{"name": "sidecar", "image": "sidecar:1", **fields}])


def variable(name: str, **source: Any) -> Object:
    return triton(env=[{"name": name, "valueFrom": source}])


def volume(name: str = "more", **source: Any) -> Object:
    return pod(volumes=[{"name": name, **source}])


def probe(kind: str, **fields: Any) -> Object:
    return sidecar(**{kind: fields})


def near(**fields: Any) -> Object:
    term = {"topologyKey": "zone", **fields}
    return pod(affinity={"podAffinity": {REQUIRED: [term]}})


HTTP = {"path": "/", "port": 9000}
HEADERS = [{"name": "X-Empty", "value": ""}, {"name": "Host", "value": "a.example.com"}]
ENV_TWICE = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
PORTS = [
    {"containerPort": 9000, "hostPort": 0},
    {"containerPort": 9000, "protocol": "UDP", "name": "udp"},
    {"containerPort": 9001, "hostPort": 9001, "hostIP": "10.0.0.1"},
]
LABELLED: Object = {"matchLabels": {"empty": "", "a": "b"}, "matchExpressions": []}
EXISTS = {"key": "gpu", "operator": "Exists", "values": []}
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}

TOKEN = {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 3600}}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
LABELS = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}

OVERLAYS: dict[str, Object] = {
    "nothing": {},
    "csi": volume(csi={"driver": "secrets-store.csi.k8s.io", "readOnly": True}),
    "projected": volume(projected={"sources": [TOKEN, {"configMap": {"name": "ca"}}]}),
    "downward": volume(downwardAPI=LABELS),
    "ephemeral": volume(ephemeral={"volumeClaimTemplate": {"spec": CLAIM}}),
    "user of a sidecar": sidecar(securityContext={"runAsUser": 1337, "runAsGroup": 1337}),
    "root of a sidecar": sidecar(securityContext={"readOnlyRootFilesystem": False}),
    "port of a sidecar": sidecar(
        securityContext={"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}
    ),
    "message of a sidecar": sidecar(
        terminationMessagePath="/tmp/end", terminationMessagePolicy="File"
    ),
    "gates": pod(readinessGates=[{"conditionType": "example.com/lb"}]),
    "processes": pod(shareProcessNamespace=True, enableServiceLinks=True),
    "devices": pod(resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "h100"}]),
    "patience": pod(preemptionPolicy="PreemptLowerPriority"),
    "empty": {"metadata": {"labels": {}}, "spec": {"containers": []}},
    "variable": triton(env=[{"name": "HF_HOME", "value": "/x"}, {"name": "NEW", "value": "1"}]),
    "empty variable": triton(env=[{"name": "HF_HOME", "value": ""}]),
    "variable twice": triton(env=ENV_TWICE),
    "variable of the pod": variable("HOME", fieldRef={"fieldPath": "metadata.name"}),
    "variable of a secret": variable("HOME", secretKeyRef={"name": "s", "key": "k"}),
    "optional variable": variable(
        "A", configMapKeyRef={"name": "c", "key": "k", "optional": False}
    ),
    "variable of a size": variable("A", resourceFieldRef={"resource": "requests.memory"}),
    "variable of a size in MiB": variable(
        "A", resourceFieldRef={"resource": "requests.memory", "divisor": "1024Ki"}
    ),
    "variables of a map": triton(envFrom=[{"configMapRef": {"name": "c"}, "prefix": ""}]),
    "mount": {
        "spec": {
            "volumes": [{"name": "more", "configMap": {"name": "c"}}],
            "containers": [
                {
                    "name": "triton",
                    "volumeMounts": [
                        {"name": "more", "mountPath": "/more", "readOnly": False, "subPath": ""}
                    ],
                }
            ],
        }
    },
    "mount in place of ours": triton(volumeMounts=[{"name": "shm", "mountPath": "/tmp/"}]),
    "mount in place of the artefact": triton(
        volumeMounts=[{"name": "scratch", "mountPath": "/artefact/", "readOnly": False}]
    ),
    "volume in place of the store": volume("store", emptyDir={}),
    "volume without a source": volume(),
    "volume twice": pod(
        volumes=[{"name": "more", "emptyDir": {}}, {"name": "more2", "emptyDir": {}}]
    ),
    "scratch on a claim": volume("scratch", persistentVolumeClaim={"claimName": "c"}),
    "more shared memory": volume("shm", emptyDir={"medium": "Memory", "sizeLimit": "65536Mi"}),
    "folder": volume(emptyDir={"medium": "", "sizeLimit": "1.5Gi"}),
    "map": volume(
        configMap={
            "name": "c",
            "optional": False,
            "items": [{"key": "a", "path": "b", "mode": 256}],
        }
    ),
    "secret": volume(secret={"secretName": "s", "defaultMode": 0, "items": []}),
    "claim": volume(persistentVolumeClaim={"claimName": "c", "readOnly": False}),
    "sidecar": sidecar(command=[], args=["--all"], workingDir=""),
    "sidecar's ports": sidecar(ports=PORTS),
    "sidecar's sizes": sidecar(
        resources={"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {}}
    ),
    "sidecar's devices": sidecar(resources={"limits": {"rdma/ib": 1}}),
    "sidecar twice over": pod(
        containers=[
            {"name": "one", "image": "a", "env": ENV_TWICE},
            {"name": "two", "image": "b", "env": [{"name": "A", "value": ""}]},
        ]
    ),
    "before and beside": pod(
        initContainers=[
            {"name": "z", "image": "z", "restartPolicy": "Always"},
            {"name": "a", "image": "a"},
        ]
    ),
    "probe": probe("livenessProbe", httpGet={**HTTP, "scheme": ""}, initialDelaySeconds=0),
    "probe of another host": probe("readinessProbe", httpGet={**HTTP, "host": "10.0.0.1"}),
    "probe with headers": probe("startupProbe", httpGet={**HTTP, "httpHeaders": HEADERS}),
    "probe of a port": probe("livenessProbe", tcpSocket={"port": 9000, "host": "10.0.0.1"}),
    "probe by gRPC": probe("livenessProbe", grpc={"port": 9000, "service": ""}),
    "probe by command": probe("livenessProbe", exec={"command": ["true"]}, periodSeconds=0),
    "hooks": sidecar(
        lifecycle={
            "preStop": {"httpGet": {**HTTP, "host": "10.0.0.1"}},
            "postStart": {"exec": {"command": ["true"]}},
        }
    ),
    "rest before the end": sidecar(lifecycle={"preStop": {"sleep": {"seconds": 5}}}),
    "near pods": near(labelSelector=LABELLED, namespaceSelector={}),
    "near all pods": near(labelSelector={}, namespaces=[]),
    "far from pods": pod(
        affinity={
            "podAntiAffinity": {
                PREFERRED: [{"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}]
            }
        }
    ),
    "on nodes": pod(
        affinity={
            "nodeAffinity": {
                REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [EXISTS]}]},
                PREFERRED: [{"weight": 1, "preference": {"matchExpressions": [EXISTS]}}],
            }
        }
    ),
    "spread": pod(
        topologySpreadConstraints=[
            {**SPREAD, "whenUnsatisfiable": "DoNotSchedule"},
            {**SPREAD, "whenUnsatisfiable": "ScheduleAnyway"},
        ]
    ),
    "hosts": pod(
        hostAliases=[
            {"ip": "10.0.0.1", "hostnames": ["a"]},
            {"ip": "10.0.0.1", "hostnames": ["b"]},
        ]
    ),
    "pull secrets": pod(imagePullSecrets=[{"name": "a"}, {"name": "a"}, {"name": "b"}]),
    "names": pod(
        dnsPolicy="None",
        dnsConfig={
            "nameservers": ["10.0.0.1"],
            "searches": [],
            "options": [{"name": "edns0", "value": ""}, {"name": "ndots", "value": "2"}],
        },
    ),
    "groups": pod(securityContext={"fsGroup": 0, "supplementalGroups": []}),
    "labels": {"metadata": {"labels": {"team": "a"}, "annotations": {"note": "", "other": "b"}}},
    "unconfined": {
        "metadata": {
            "annotations": {
                "container.apparmor.security.beta.kubernetes.io/triton": "unconfined",
                "prometheus.io/scrape": "false",
            }
        }
    },
}
"""By what they are about."""
