"""Every reason that needs a person is reached, its advice followed, and the model serves.

The table is held against the code: a reason without a way out fails here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from e2e.fake_kubelet import make_ended_status, succeed
from llmjp_operator.api import Phase
from llmjp_operator.errors import ApiRefused
from llmjp_operator.observe.snapshot import ObjectRef
from llmjp_operator.report.notices import WARNINGS
from llmjp_operator.settings import Settings
from tests.operator.factories import SETTINGS, make_failure
from tests.operator.fake_workloads import Script, only
from tests.operator.model_bodies import Object, merge_patch
from tests.operator.simulation import Simulation

H100 = "NVIDIA-H100-80GB-HBM3"
COMPILED: Object = {
    "engine": {"backend": "tensorrt", "maxSeqLen": 512},
    "hardware": {"gpuProduct": H100},
}
ON_ONE_NODE = merge_patch(
    COMPILED, {"storage": {"accessMode": "ReadWriteOnce"}, "serving": {"replicas": 1}}
)
TERMS = {"source": {"huggingFace": {"repository": "llm-jp/llm-jp-3-172b-instruct3"}}}
CALIBRATED = {
    "engine": {
        "backend": "torch",
        "maxSeqLen": 512,
        "quantization": "fp8",
        "calibration": {"configMapRef": {"name": "texts", "key": "texts.txt"}},
    }
}


def a_node(gpus: int, capability: str = "9.0", name: str = "n", **labels: str) -> Object:
    major, _, minor = capability.partition(".")
    known = {
        "nvidia.com/gpu.product": H100,
        "nvidia.com/gpu.compute.major": major,
        "nvidia.com/gpu.compute.minor": minor,
    }
    status = {"allocatable": {"nvidia.com/gpu": str(gpus)}}
    return {"metadata": {"name": name, "labels": known | labels}, "spec": {}, "status": status}


def edit(changes: Object, script: Script | None = None) -> Callable[[Simulation], None]:
    def follow(simulation: Simulation) -> None:
        if script is not None:
            simulation.workloads.script = script
        simulation.edit(changes)

    return follow


def put(body: Object) -> Callable[[Simulation], None]:
    def follow(simulation: Simulation) -> None:
        simulation.server.put(body)

    return follow


def give_images(simulation: Simulation) -> None:
    simulation.restart(SETTINGS)


def lift_quota(simulation: Simulation) -> None:
    simulation.server.refuse = lambda _: None


def pass_by_itself(simulation: Simulation) -> None:
    simulation.workloads.script = succeed


def refuse_jobs(simulation: Simulation) -> None:
    simulation.server.refuse = lambda wanted: (
        ApiRefused(403, "PATCH Job", "exceeded quota") if wanted["kind"] == "Job" else None
    )


def take_names(*bodies: Object) -> Callable[[Simulation], None]:
    """Let somebody else have objects of those names before the operator sees the model."""

    def prepare(simulation: Simulation) -> None:
        for body in bodies:
            simulation.server.put(body)

    return prepare


def ask_for_revision(simulation: Simulation) -> None:
    simulation.run_for(60)
    simulation.annotate(rollback_to="9")


def free_names(*bodies: Object) -> Callable[[Simulation], None]:
    def follow(simulation: Simulation) -> None:
        for body in bodies:
            simulation.server.discard(ObjectRef(body["kind"], body["metadata"]["name"]))

    return follow


def nodes(*found: Object) -> Callable[[Simulation], None]:
    def prepare(simulation: Simulation) -> None:
        simulation.server.node_list = list(found)

    return prepare


def serve_first(then: Object, script: Script) -> Callable[[Simulation], None]:
    """Let the model serve, then ask for something else that goes wrong."""

    def prepare(simulation: Simulation) -> None:
        simulation.run_for(60)
        assert simulation.phase == Phase.SERVING
        simulation.workloads.script = script
        simulation.edit(then)

    return prepare


def pods_fail(word: str) -> Script:
    """Return a script in which pods that serve with that word do not become ready."""

    def script(pod: Object) -> Object | None:
        container = pod["spec"]["containers"][0]
        serves = container["args"][0] == "serve"
        bad = word in container["args"] or word in container["resources"]["requests"].values()
        return {"phase": "Running"} if serves and bad else succeed(pod)

    return script


@dataclass(frozen=True)
class Case:
    """A model in trouble, the words that it shows, and what they advise."""

    words: str
    follow: Callable[[Simulation], None]
    changes: Object = field(default_factory=dict)
    prepare: Callable[[Simulation], None] | None = None
    script: Script = succeed
    settings: Settings = SETTINGS


def ended(*, retryable: bool) -> Object:
    return make_ended_status(make_failure(retryable=retryable).to_json(), 3)


TOKEN = {"source": {"huggingFace": {"tokenSecretRef": {"name": "hub", "key": "token"}}}}
BAD_MEMORY = {"serving": {"resources": {"requests": {"memory": "99Ti"}}}}
CLAIM = {"kind": "PersistentVolumeClaim", "metadata": {"name": "theirs"}, "spec": {}}
TEXTS = {"kind": "ConfigMap", "metadata": {"name": "texts"}, "data": {"texts.txt": "text"}}

THEIRS = {"kind": "Service", "metadata": {"name": "a"}, "spec": {"selector": {"app": "theirs"}}}

CASES = {
    "NameTaken": Case(
        "Service a in namespace ns is not this model's",
        free_names(THEIRS),
        prepare=take_names(THEIRS),
    ),
    "LicenceNotAccepted": Case(
        "set spec.licence.accepted: llm-jp-3-172b-instruct3-tou",
        edit({**TERMS, "licence": {"accepted": "llm-jp-3-172b-instruct3-tou"}}),
        TERMS,
    ),
    "BackendNotServed": Case(
        "use tensorrt, pytorch or torch",
        edit(COMPILED),
        {**COMPILED, "engine": {"backend": "vllm"}},
    ),
    "SeveralNodesNeeded": Case(
        "use fewer GPUs",
        edit(merge_patch(COMPILED, {"engine": {"tensorParallel": 2}})),
        merge_patch(COMPILED, {"engine": {"tensorParallel": 16}}),
    ),
    "ImageMissing": Case(
        "set them in the chart's values under images",
        give_images,
        COMPILED,
        settings=replace(SETTINGS, images={"cpu": SETTINGS.images["cpu"]}),
    ),
    "TokenNotAllowed": Case(
        "a token is not sent to https://elsewhere.example.com",
        edit({"source": {"huggingFace": {"tokenSecretRef": {"name": "s"}}}}),
        {
            "source": {
                "huggingFace": {
                    "tokenSecretRef": {"name": "s"},
                    "endpoint": "https://elsewhere.example.com",
                }
            }
        },
    ),
    "RevisionMissing": Case(
        "asks for revision 9, and there is: 1",
        Simulation.annotate,
        prepare=ask_for_revision,
    ),
    "ClaimMissing": Case(
        "the claim theirs does not exist",
        put(CLAIM),
        {"storage": {"size": None, "existingClaim": "theirs"}},
    ),
    "TextsMissing": Case("there is no ConfigMap texts", put(TEXTS), CALIBRATED),
    "StorageWouldDeadlock": Case(
        "set serving.maxSurge: 0",
        edit(merge_patch(ON_ONE_NODE, {"serving": {"maxSurge": 0}})),
        merge_patch(ON_ONE_NODE, {"serving": {"maxSurge": 1}}),
        nodes(a_node(1)),
    ),
    "CannotWork": Case(
        "", edit({"engine": {"tensorParallel": 2}}), {"engine": {"tensorParallel": 3}}
    ),
    "Incompatible": Case(
        "narrow spec.serving.nodeSelector to nodes of one kind",
        edit(merge_patch(COMPILED, {"serving": {"nodeSelector": {"kind": "new"}}})),
        COMPILED,
        nodes(a_node(8, kind="new"), a_node(8, "8.0", "m")),
    ),
    "InvalidSpec": Case("spec.engine", edit({}), {"engine": {"backend": "abacus"}}),
    "Hindered": Case("exceeded quota", lift_quota, prepare=refuse_jobs),
    "ResolveFailed": Case(
        "no answer",
        edit(TOKEN, succeed),
        script=only("resolve", ended(retryable=False)),
    ),
    "BuildFailed": Case(
        "no answer",
        edit(TOKEN, succeed),
        script=only("build", ended(retryable=False)),
    ),
    "ResolveRetrying": Case(
        "follows", pass_by_itself, script=only("resolve", ended(retryable=True))
    ),
    "BuildRetrying": Case("follows", pass_by_itself, script=only("build", ended(retryable=True))),
    "RolloutStalled": Case(
        "the previous pods keep serving",
        edit({}),
        prepare=serve_first(BAD_MEMORY, pods_fail("99Ti")),
    ),
    "RolledBack": Case(
        "Fix the spec",
        edit({"serving": {"maxSurge": 0}}),
        {"serving": {"maxSurge": 0}},
        serve_first(
            {"engine": {"backend": "torch", "maxSeqLen": 200}, "serving": {"maxSurge": 0}},
            pods_fail("200"),
        ),
    ),
}

NOTHING_TO_FOLLOW = {"Downtime": "it passes when the new pod is ready"}


def test_every_reason_that_needs_a_person_is_followed_here() -> None:
    assert CASES.keys() | NOTHING_TO_FOLLOW.keys() == WARNINGS
    assert not CASES.keys() & NOTHING_TO_FOLLOW.keys()


@pytest.mark.parametrize("reason", CASES)
def test_the_advice_leads_to_serving(reason: str) -> None:
    case = CASES[reason]
    simulation = Simulation(case.changes, script=case.script, settings=case.settings)
    if case.prepare is not None:
        case.prepare(simulation)
    simulation.run_for(60)
    said = {c.reason: simulation.message(c.type) for c in simulation.status.conditions}
    assert reason in said, said
    assert case.words in said[reason]
    case.follow(simulation)
    simulation.run_for(400)
    assert simulation.phase == Phase.SERVING, simulation.status.conditions


def test_scaling_to_zero_for_the_build_is_a_way_out() -> None:
    scarce = merge_patch(ON_ONE_NODE, {"serving": {"maxSurge": 0}})
    other = merge_patch(scarce, {"engine": {"maxSeqLen": 200}})
    simulation = Simulation(scarce)
    simulation.server.node_list = [a_node(1)]
    simulation.run_for(60)
    simulation.edit(other)
    simulation.run_for(60)
    assert simulation.reason("Accepted") == "StorageWouldDeadlock"
    assert "scale to 0 for the build" in simulation.message("Accepted")
    simulation.edit(merge_patch(other, {"serving": {"replicas": 0}}))
    simulation.run_for(120)
    simulation.edit(other)
    simulation.run_for(60)
    assert simulation.phase == Phase.SERVING


def test_a_longer_deadline_is_tried_at_once() -> None:
    hasty = {"build": {"backoffLimit": 0}}
    simulation = Simulation(hasty, script=only("build", {"phase": "Running"}))
    simulation.run_for(60)
    [job] = simulation.all_jobs("build")
    condition = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
    simulation.server.put({**job, "status": {"conditions": [condition]}})
    simulation.workloads.script = succeed
    simulation.run_for(700)
    assert "raise spec.build.activeDeadlineSeconds" in simulation.message("EngineReady")
    simulation.edit({"build": {"backoffLimit": 0, "activeDeadlineSeconds": 90_000}})
    simulation.run_for(60)
    assert simulation.phase == Phase.SERVING
