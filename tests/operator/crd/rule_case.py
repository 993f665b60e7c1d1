"""The form of a rule's examples, and pieces of specs to write them with."""

from __future__ import annotations

from dataclasses import dataclass

from tests.operator.model_bodies import Object


@dataclass(frozen=True, slots=True)
class RuleCase:
    """A rule with examples, which are changes to the smallest model's spec."""

    path: str
    sentence: str
    accepted: Object
    refused: Object
    before: Object | None = None
    """Changes to the object before, for rules about changes."""


def engine(**fields: object) -> Object:
    return {"engine": {"backend": "tensorrt", **fields}}


def hugging_face(repository: str = "example/llama", **fields: object) -> Object:
    return {"source": {"huggingFace": {"repository": repository, **fields}}}


def volume(**fields: object) -> Object:
    return {
        "source": {"huggingFace": None, "persistentVolumeClaim": {"claimName": "weights", **fields}}
    }


def sized(size: str, tensor_parallel: int, **fields: object) -> Object:
    return hugging_face(f"llm-jp/llm-jp-3-{size}") | engine(
        tensorParallel=tensor_parallel, **fields
    )


def serving(**fields: object) -> Object:
    return {"serving": fields}


def pod(**fields: object) -> Object:
    return serving(podTemplate={"spec": fields})


def container(**fields: object) -> Object:
    return pod(containers=[{"name": "triton", **fields}])


def storage(**fields: object) -> Object:
    return {"storage": {"size": None, **fields}}


CLAIM = {"existingClaim": "shared"}
OBJECT_NAME = "must be the name of a Kubernetes object: small letters, digits, dashes and dots"
QUANTITY = "must be a quantity that is not negative, such as 500m, 16Gi or 2"
HOST = "must be left out: the pods are kept apart from their node"
ACCOUNT = "must be left out: the pods have a service account of their own, without rights"
RESTRICTED = "must be left out: the operator sets what PodSecurity restricted asks for"
GPU = "leave nvidia.com/gpu out: the operator asks for as many GPUs as the engine needs"
