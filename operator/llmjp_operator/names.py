"""Names, labels and paths that the operator gives or goes by. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Final

GROUP: Final = "serving.llmjp.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "LlmJpModel"
PLURAL: Final = "llmjpmodels"
SINGULAR: Final = "llmjpmodel"
SHORT_NAME: Final = "ljm"
CRD: Final = f"{PLURAL}.{GROUP}"

FIELD_MANAGER: Final = "llmjp-operator"
"""Owns every field that the operator applies."""
OWNERS_MANAGER: Final = "llmjp-operator-owners"
"""Owns the ownerReferences that are added to a Job which another model created first."""
LEASE: Final = "llmjp-operator"
"""Name of the Lease that the leader holds."""

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
OPERATOR: Final = "llmjp-operator"
"""Value of `MANAGED_BY` on everything that the operator makes."""
COMPONENT: Final = "app.kubernetes.io/component"
"""serving, build, resolve, collect or store."""
MODEL_LABEL: Final = f"{GROUP}/model"
"""On everything that exists for one model; the value is the model's name."""
STORE_LABEL: Final = f"{GROUP}/store"
"""On everything that exists for one store, and on all pods that mount it: `make_store_id`."""
REQUEST_LABEL: Final = f"{GROUP}/request"
"""On build Jobs and their pods: the request's digest."""
KEY_LABEL: Final = f"{GROUP}/key"
"""On serving pods: the artefact's key."""
SOURCE_LABEL: Final = f"{GROUP}/source"
"""On resolve Jobs: the digest of what is to be pinned."""

OWNER: Final = f"{GROUP}/owner"
"""Annotation of what outlives a model, or is shared by several: `make_owner_id` of whose it is."""
BUILD_SPEC: Final = f"{GROUP}/build-spec"
"""Annotation of build pods: the BuildSpec as JSON, which the pod reads as a file."""
UNTIL: Final = f"{GROUP}/until"
"""Annotation of build Jobs that end before the artefact: `checkpoint`."""
FROM_CHECKPOINT: Final = f"{GROUP}/from-checkpoint"
"""Annotation of build Jobs that compile only: the key of the checkpoint."""
ATTEMPT: Final = f"{GROUP}/attempt"
"""Annotation of Jobs: which try this is, from 1."""
RETRY: Final = f"{GROUP}/retry"
"""Annotation of a model: any new value tries again what failed for good."""
FAILED_ROLLOUT: Final = f"{GROUP}/failed-rollout"
"""Annotation that version 0.1.0 gave a Deployment: digest of pods that were rolled back."""
SERVED: Final = f"{GROUP}/served"
"""Annotation of a revision whose pods became ready."""
FAILED: Final = f"{GROUP}/failed"
"""Annotation of a revision whose rollout failed: value of `RETRY` then."""
ROLLBACK_TO: Final = f"{GROUP}/rollback-to"
"""Annotation of a model: number of the revision to serve whatever the spec asks for."""
POD_DIGEST: Final = f"{GROUP}/pods"
"""Annotation of a Deployment: digest of the pods that it is to run. Of a Job: the same without the
model's name, so that models whose pods would be equal are known by it."""

ARTEFACT_FOLDER: Final = "/artefact"
"""Mount path of the artefact that is served."""
SERVING_CONTAINER: Final = "triton"
"""The container that serves, in the pods of a model's Deployment."""
BUILDER_CONTAINER: Final = "builder"
"""The container of Jobs."""

GPU: Final = "nvidia.com/gpu"
"""The extended resource of NVIDIA's device plugin."""
HOSTNAME: Final = "kubernetes.io/hostname"
"""Label of nodes, unique for each."""
CPU_FLAVOUR: Final = "cpu"
"""Flavour of the images that need no GPU; the others are named by the runtime's version."""
SOURCE_FOLDER: Final = "/source"
"""Where a volume with a checkpoint is mounted."""
CALIBRATION_FILE: Final = "/etc/llmjp/calibration/texts.txt"
"""Where calibration texts are mounted."""

HEADLESS_SUFFIX: Final = "-headless"
"""In the name of the Service that resolves to every pod: `make_headless_name`."""
STORE_SUFFIX: Final = "-store"
"""Suffix of the PersistentVolumeClaim that is made for one model."""
RESOLVE_INFIX: Final = "-resolve-"
"""Between a model's name and 8 hex digits."""
BUILD_PREFIX: Final = "ljm-build-"
"""Prefix of build Jobs; a digest of request and store follows."""
COLLECT_PREFIX: Final = "ljm-collect-"
"""Prefix of Jobs that remove old artefacts; a digest of what they remove follows."""
RECORD_PREFIX: Final = "ljm-store-"
"""Prefix of the ConfigMap that records what is in a store; the claim's name follows."""
BUILD_SUFFIX: Final = ".build"
"""Suffix of the NetworkPolicy for the pods that resolve, build and collect. No model's name has a
dot, so it is no model's serving policy."""
_POD_SUFFIX: Final = "-0123456789-01234"
"""As long as what Deployment and ReplicaSet append: a hash of 10 characters, then 5 at random."""

MAX_LABEL: Final = 63
"""Most characters of a label's value, a Service's name and a host name."""
MAX_MODEL_NAME: Final = MAX_LABEL - max(map(len, (HEADLESS_SUFFIX, STORE_SUFFIX, _POD_SUFFIX)))
"""Most characters of a model's name: with any suffix it is still a label and a host name."""


RESERVED_ACCOUNT: Final = "default"
"""ServiceAccount that every namespace has; pods of others use it."""


def compute_digest(text: str, length: int = 20) -> str:
    """That many hex digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def make_store_id(claim: str) -> str:
    """The claim's name as the value of a label: itself, or a digest where it is too long."""
    fits = len(claim) <= MAX_LABEL and re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", claim)
    return claim if fits else compute_digest(claim)


def make_record_name(claim: str) -> str:
    """The ConfigMap that records what is in the store on that claim."""
    return f"{RECORD_PREFIX}{make_store_id(claim)}"


def make_owner_id(namespace: str, name: str) -> str:
    """The value of `OWNER`: whose an object is, a model's or, if several share it, a claim's."""
    return f"{namespace}/{name}"


def make_headless_name(model: str) -> str:
    """The Service that resolves to every pod of a model.

    Names of Services have no character that names of models lack, so length tells them apart: this
    name is longer than any model's.
    """
    name = make_first_headless_name(model)
    missing = MAX_MODEL_NAME + 1 - len(name)
    return name if missing <= 0 else f"{name}-{compute_digest(model, max(missing - 1, 8))}"


def make_builder_policy_name(model: str) -> str:
    """The NetworkPolicy for the pods that resolve, build and collect."""
    return f"{model}{BUILD_SUFFIX}"


def make_account_name(model: str) -> str:
    """The ServiceAccount of a model's pods."""
    return f"{model}.llmjp" if model == RESERVED_ACCOUNT else model


def make_first_headless_name(model: str) -> str:
    """The same Service in version 0.1.0, where it could be the name of another model's."""
    return f"{model}{HEADLESS_SUFFIX}"


def make_revision_name(model: str, what: str) -> str:
    """The ControllerRevision of a model; `what` tells it from the model's others."""
    return f"{model}.{compute_digest(what, 10)}"


def make_resolve_job_name(model: str, source: str) -> str:
    """The Job that pins a source; `source` is the digest of what is to be pinned."""
    return f"{model}{RESOLVE_INFIX}{source[:8]}"


def make_build_job_name(request: str, claim: str) -> str:
    """The Job that builds what the request asks for into the store on that claim."""
    return f"{BUILD_PREFIX}{compute_digest(f'{claim} {request}')}"


def make_collect_job_name(what: str) -> str:
    """The Job that removes artefacts; `what` is a digest of their keys and the store."""
    return f"{COLLECT_PREFIX}{what}"
