"""The objects that are made: what about them depends on the spec."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmjp_operator.api import Model
from llmjp_operator.decide.build_request import make_request
from llmjp_operator.decide.garbage import name_collect_job
from llmjp_operator.decisions import GarbageDecision, ResourceEstimate
from llmjp_operator.names import MODEL_LABEL, STORE_LABEL, make_store_id
from llmjp_operator.observe.store_record import StoreRecord
from llmjp_operator.render import jobs, network, service, serving, storage
from llmjp_operator.render.metadata import get_pod_digest
from llmjp_operator.settings import Network
from tests.operator.factories import (
    FOUND,
    SETTINGS,
    make_artefact,
    make_engine,
    make_engine_model,
    make_model,
)
from tests.operator.model_bodies import Object
from tests.operator.render.samples import render_rollout

GIB = 1 << 30
GPU = "nvidia.com/gpu"
VOLUME = {"huggingFace": None, "persistentVolumeClaim": {"claimName": "c", "path": "a/b/"}}
SHARED = {"size": None, "existingClaim": "shared"}


def a_deployment(model: Model, **values: Any) -> Object:
    engine = model.spec.engine.backend.value == "tensorrt"
    built = values.pop("built", make_engine() if engine else make_artefact())
    memory = values.pop("host_memory_bytes", 4 * GIB)
    return render_rollout(model, built, SETTINGS, memory, **values)[1]


def a_collection(model: Model, *names: str) -> Object:
    garbage = GarbageDecision(remove=names, job=name_collect_job(model, names))
    return jobs.render_collect_job(model, garbage, SETTINGS, single_node=False)


def a_build(model: Model, **values: Any) -> Object:
    options: dict[str, Any] = {
        "needs": ResourceEstimate(),
        "attempt": 1,
        "single_node": False,
        **values,
    }
    return jobs.render_build_job(model, make_request(model, FOUND, None), SETTINGS, **options)


def pod(made: Object) -> Object:
    spec: Object = made["spec"]["template"]["spec"]
    return spec


def main(made: Object) -> Object:
    container: Object = pod(made)["containers"][0]
    return container


def value(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


@pytest.mark.parametrize(
    ("surge", "rolling"),
    [(1, {"maxSurge": 1, "maxUnavailable": 0}), (0, {"maxSurge": 0, "maxUnavailable": 1})],
)
def test_max_surge_decides_how_pods_are_replaced(surge: int, rolling: Object) -> None:
    made = a_deployment(make_model({"serving": {"maxSurge": surge}}))
    assert made["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}


def test_larger_artefacts_may_start_longer() -> None:
    small, large = (
        a_deployment(make_model(), built=make_artefact(bytes=size)) for size in (0, 345_000_000_000)
    )
    assert small["spec"]["progressDeadlineSeconds"] == 390
    assert large["spec"]["progressDeadlineSeconds"] == 390 + 3450
    for made in (small, large):
        probe = main(made)["startupProbe"]
        allowed = probe["failureThreshold"] * probe["periodSeconds"]
        server = int(value(main(made)["args"], "--start-timeout"))
        assert server < allowed < made["spec"]["progressDeadlineSeconds"]


def test_images_for_gpus_take_longer_to_pull() -> None:
    one = a_deployment(make_model(), built=make_artefact(bytes=0))
    other = a_deployment(make_engine_model(), built=make_engine(bytes=0))
    waits = [made["spec"]["progressDeadlineSeconds"] for made in (one, other)]
    assert waits == [390, 630]


def test_a_pod_has_time_to_drain() -> None:
    made = a_deployment(make_model({"serving": {"drainSeconds": 300}}))
    assert pod(made)["terminationGracePeriodSeconds"] == 345
    assert main(made)["lifecycle"]["preStop"]["exec"]["command"][-1] == "300"


def test_the_artefact_cannot_be_written() -> None:
    made = a_deployment(make_model(), built=make_artefact("x" * 20))
    [mount] = [m for m in main(made)["volumeMounts"] if m["name"] == "store"]
    assert (mount["subPath"], mount["readOnly"]) == (f"artefacts/{'x' * 20}", True)


def test_only_the_model_changes_its_pods() -> None:
    digests = [
        get_pod_digest(a_deployment(model, **values))
        for model, values in (
            (make_model(), {}),
            (make_model({"serving": {"replicas": 7, "maxSurge": 0}}), {}),
            (make_model({"serving": {"maxQueue": 1}}), {}),
            (make_model(), {"built": make_artefact("y" * 20)}),
        )
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("changes", "there", "missing"),
    [
        ({"backend": "torch"}, [], ["--tp", "--kv-cache-fraction"]),
        ({"backend": "pytorch", "tensorParallel": 2}, ["--tp", "--pp", "--kv-cache-fraction"], []),
        ({"backend": "tensorrt", "tensorParallel": 2}, ["--kv-cache-fraction"], ["--tp"]),
    ],
)
def test_the_server_gets_what_its_backend_reads(
    changes: Object, there: list[str], missing: list[str]
) -> None:
    found = serving.render_arguments(make_model({"engine": changes}).spec, make_artefact())
    assert found[:2] == ["serve", "/artefact"]
    assert value(found, "--max-batch-size") == str(make_model().spec.engine.max_batch_size)
    assert set(there) <= set(found)
    assert not set(missing) & set(found)


def test_several_gpus_need_shared_memory_and_ranks() -> None:
    made = a_deployment(make_engine_model({"engine": {"backend": "tensorrt", "tensorParallel": 4}}))
    assert main(made)["resources"]["limits"][GPU] == "4"
    assert {"name": "OMPI_MCA_plm_rsh_agent"} in main(made)["env"]
    assert pod(made)["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert pod(made)["tolerations"] == [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    [shared] = [v for v in pod(made)["volumes"] if v["name"] == "shm"]
    assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": "4Gi"}


def test_without_gpus_none_is_asked_for() -> None:
    made = a_deployment(make_model())
    assert GPU not in main(made)["resources"]["requests"]
    assert "nodeSelector" not in pod(made)
    assert "tolerations" not in pod(made)


def test_tls_changes_ports_probes_and_mounts() -> None:
    model = make_model({"serving": {"tls": {"secretName": "t"}}})
    made = a_deployment(model)
    assert value(main(made)["args"], "--tls-cert") == "/etc/llmjp/tls/tls.crt"
    ports = [p["name"] for p in service.render_services(model)[0]["spec"]["ports"]]
    assert ports == ["grpc", "metrics"]
    assert [p["name"] for p in service.render_services(make_model())[0]["spec"]["ports"]] == [
        *("grpc", "http", "metrics"),
    ]


def test_pods_of_one_store_on_one_node() -> None:
    made = a_deployment(make_model({"storage": SHARED}), single_node=True)
    [rule] = pod(made)["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["labelSelector"]["matchLabels"] == {STORE_LABEL: make_store_id("shared")}
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert labels[STORE_LABEL] == make_store_id("shared"), "else the first pod could go nowhere"


@pytest.mark.parametrize("kind", ["resolve", "build", "collect"])
def test_jobs_are_not_retried_by_kubernetes(kind: str) -> None:
    model = make_model()
    made = {
        "resolve": jobs.render_resolve_job(model, SETTINGS, attempt=2, single_node=False),
        "build": a_build(model, attempt=2),
        "collect": a_collection(model, "k"),
    }[kind]
    assert made["spec"]["backoffLimit"] == 0
    assert pod(made)["restartPolicy"] == "Never"
    assert pod(made)["automountServiceAccountToken"] is False
    attempt = made["metadata"]["annotations"]["serving.llmjp.dev/attempt"]
    assert attempt == ("1" if kind == "collect" else "2")


def test_a_hub_is_resolved_without_the_store() -> None:
    hub = {
        "repository": "o/n",
        "revision": "v1",
        "endpoint": "https://mirror",
        "tokenSecretRef": {"name": "s", "key": "k"},
        "caSecretRef": {"name": "c"},
    }
    changes = {"source": {"huggingFace": hub}, "licence": {"accepted": "x"}}
    made = jobs.render_resolve_job(make_model(changes), SETTINGS, attempt=1, single_node=True)
    found = main(made)["args"]
    assert found[:2] == ["resolve", "o/n"]
    pairs = {"--revision": "v1", "--endpoint": "https://mirror", "--accept-licence": "x"}
    pairs |= {"--token-file": "/etc/llmjp/token/token", "--ca-file": "/etc/llmjp/ca/ca.crt"}
    assert {name: value(found, name) for name in pairs} == pairs
    assert {v["name"] for v in pod(made)["volumes"]} == {"scratch", "token", "ca"}
    assert "affinity" not in pod(made)
    [token] = [v for v in pod(made)["volumes"] if v["name"] == "token"]
    assert token["secret"]["items"] == [{"key": "k", "path": "token"}]


def test_a_volume_is_resolved_with_the_store() -> None:
    made = jobs.render_resolve_job(
        make_model({"source": VOLUME}), SETTINGS, attempt=1, single_node=True
    )
    assert main(made)["args"][:4] == ["resolve", "/source/a/b", "--store", "/store"]
    assert "affinity" in pod(made)
    [source] = [m for m in main(made)["volumeMounts"] if m["name"] == "source"]
    assert source["readOnly"]


def test_a_build_reads_its_spec_from_a_file() -> None:
    model = make_model()
    made = a_build(model)
    annotations = made["spec"]["template"]["metadata"]["annotations"]
    assert '"tensor_parallel":1' in annotations["serving.llmjp.dev/build-spec"]
    assert value(main(made)["args"], "--spec") == "/etc/llmjp/build/spec.json"
    assert GPU not in main(made)["resources"]["limits"]


def test_the_memory_of_a_build() -> None:
    found = main(a_build(make_model(), needs=ResourceEstimate(memory_bytes=4 * GIB)))["resources"]
    assert (found["requests"]["memory"], found["limits"]["memory"]) == ("4Gi", "6Gi")


def test_a_collect_job_removes_the_artefacts_it_is_named_for() -> None:
    one = a_collection(make_model(), "x", "y")
    assert main(one)["args"][-2:] == ["x", "y"]
    other = a_collection(make_model(), "x")
    assert one["metadata"]["name"] != other["metadata"]["name"]


@pytest.mark.parametrize("on_delete", ["Retain", "Delete"])
def test_a_store_goes_with_its_model_if_it_is_to(on_delete: str) -> None:
    model = make_model({"storage": {"onDelete": on_delete}})
    for made in (storage.render_claim(model), storage.render_record(model, StoreRecord())):
        assert made is not None
        assert ("ownerReferences" in made["metadata"]) is (on_delete == "Delete")


def test_a_shared_store_is_nobodys() -> None:
    model = make_model({"storage": SHARED})
    assert storage.render_claim(model) is None
    made = storage.render_record(model, StoreRecord())
    other = storage.render_record(make_model({"storage": SHARED}, "b"), StoreRecord())
    assert made == other
    assert MODEL_LABEL not in made["metadata"]["labels"]


def test_network_policies_can_be_switched_off() -> None:
    settings = replace(SETTINGS, network=Network(enabled=False))
    assert network.render_serving_policy(make_model(), settings) is None
    assert network.render_builder_policy(make_model(), settings) is None


def test_serving_pods_have_no_egress() -> None:
    made = network.render_serving_policy(make_model(), SETTINGS)
    assert made is not None
    assert made["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in made["spec"]
    clients, metrics = made["spec"]["ingress"]
    assert clients["from"] == [{"podSelector": {}}]
    assert [p["port"] for p in clients["ports"]] == [8001, 8000]
    assert [p["port"] for p in metrics["ports"]] == [8002]


@pytest.mark.parametrize(
    ("endpoint", "ports"),
    [
        (None, [443]),
        ("https://mirror", [443]),
        ("http://mirror", [80, 443]),
        ("https://mirror:8443/x", [443, 8443]),
    ],
)
def test_builds_reach_their_hub(endpoint: str | None, ports: list[int]) -> None:
    hub = {"repository": "o/n", **({"endpoint": endpoint} if endpoint else {})}
    made = network.render_builder_policy(make_model({"source": {"huggingFace": hub}}), SETTINGS)
    assert made is not None
    assert "ingress" not in made["spec"]
    dns, out = made["spec"]["egress"]
    assert {p["port"] for p in dns["ports"]} == {53}
    assert [p["port"] for p in out["ports"]] == ports
    four, six = (peer["ipBlock"] for peer in out["to"])
    assert (four["cidr"], six["cidr"]) == ("0.0.0.0/0", "::/0")
    assert "10.0.0.0/8" in four["except"]
    assert all(":" in cidr for cidr in six["except"])


@pytest.mark.parametrize(
    ("cidrs", "reached"),
    [
        ((), [{"cidr": "0.0.0.0/0"}, {"cidr": "::/0"}]),
        (("::/0", "10.0.0.0/8"), [{"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}]),
        (("0.0.0.0/0", "::/0"), None),
    ],
    ids=["everything", "no IPv6", "nothing"],
)
def test_ranges_that_builds_may_not_reach(cidrs: tuple[str, ...], reached: Any) -> None:
    """The API server takes no exception as large as its range."""
    settings = replace(SETTINGS, network=Network(cluster_cidrs=cidrs))
    made = network.render_builder_policy(make_model(), settings)
    assert made is not None
    found = [rule["to"] for rule in made["spec"]["egress"] if "to" in rule]
    assert found == ([] if reached is None else [[{"ipBlock": block} for block in reached]])


def test_builds_of_a_volume_reach_only_names() -> None:
    made = network.render_builder_policy(make_model({"source": VOLUME}), SETTINGS)
    assert made is not None
    assert len(made["spec"]["egress"]) == 1


def test_a_headless_service_finds_every_pod() -> None:
    wanted = {"type": "LoadBalancer", "annotations": {"x": "y"}}
    one, each = service.render_services(make_model({"serving": {"service": wanted}}))
    assert (one["spec"]["type"], one["metadata"]["annotations"]) == ("LoadBalancer", {"x": "y"})
    assert each["spec"]["clusterIP"] == "None"
    assert "annotations" not in each["metadata"]
    assert one["spec"]["selector"] == each["spec"]["selector"]


def test_pods_that_do_not_answer_hinder_no_drain() -> None:
    made = service.render_disruption_budget(make_model())
    assert made["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert made["spec"]["maxUnavailable"] == 1
