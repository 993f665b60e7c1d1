"""The CustomResourceDefinition: schema, printer columns, subresources. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from llmjp_operator.api.field_types import CelRule
from llmjp_operator.api.spec import Spec
from llmjp_operator.api.status import Status
from llmjp_operator.crd.schema import Object, build_schema, render_rule
from llmjp_operator.names import (
    CRD,
    GROUP,
    KIND,
    MAX_LABEL,
    MAX_MODEL_NAME,
    PLURAL,
    SHORT_NAME,
    SINGULAR,
    VERSION,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column that `kubectl get` prints."""

    name: str
    path: str
    """JSONPath in the object."""
    meaning: str
    type: Literal["string", "integer", "date"] = "string"
    wide: bool = False
    """Whether it is printed with `--output=wide` only."""


COLUMNS: Final = (
    Column(name="Phase", path=".status.phase", meaning="State of the model in one word."),
    Column(
        name="Reason",
        path='.status.conditions[?(@.type=="Ready")].reason',
        meaning="Why it is in that phase.",
    ),
    Column(
        name="Ready", path=".status.ready", meaning="Ready pods of those that the spec asks for."
    ),
    Column(name="Backend", path=".spec.engine.backend", meaning="What generates the tokens."),
    Column(
        name="Progress",
        path=".status.build.percent",
        meaning="Percent of the build's step.",
        type="integer",
    ),
    Column(
        name="Age", path=".metadata.creationTimestamp", meaning="Age of the model.", type="date"
    ),
    Column(
        name="Engine",
        path=".status.engine.active",
        meaning="Key of the artefact that serves.",
        wide=True,
    ),
    Column(
        name="Key",
        path=".status.engine.key",
        meaning="Key of the artefact that the spec asks for.",
        wide=True,
    ),
    Column(name="Step", path=".status.build.step", meaning="Step of the build.", wide=True),
    Column(
        name="Doing",
        path='.status.conditions[?(@.type=="Reconciling")].message',
        meaning="What is under way.",
        wide=True,
    ),
    Column(
        name="Problem",
        path='.status.conditions[?(@.type=="Stalled")].message',
        meaning="Why nothing is under way until a person does something.",
        wide=True,
    ),
)

DESCRIPTION: Final = (
    "An llm-jp-3 model: its source, the engine built from it, and how it is served."
)

NAME_RULES: Final = (
    CelRule(
        f"size(self) <= {MAX_MODEL_NAME}",
        f"the model's name must have at most {MAX_MODEL_NAME} characters: pods' names are made of "
        f"it, and have at most {MAX_LABEL}",
    ),
    CelRule(
        "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "the model's name must begin with a letter and have small letters, digits and dashes only: "
        "a Service has the same name",
    ),
)


def build_definition() -> Object:
    """Return the CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD, "labels": {"app.kubernetes.io/name": "llmjp-operator"}},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": [SHORT_NAME],
                "categories": ["all", "llmjp"],
            },
            "scope": "Namespaced",
            "versions": [_build_version()],
        },
    }


def _build_version() -> Object:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _build_root_schema()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.serving.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [_build_column(column) for column in COLUMNS],
    }


def _build_root_schema() -> Object:
    return {
        "description": DESCRIPTION,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "properties": {
                    "name": {
                        "type": "string",
                        "x-kubernetes-validations": [render_rule(rule) for rule in NAME_RULES],
                    }
                },
            },
            "spec": build_schema(Spec),
            "status": build_schema(Status),
        },
    }


def _build_column(column: Column) -> Object:
    return {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.meaning,
        **({"priority": 1} if column.wide else {}),
    }
