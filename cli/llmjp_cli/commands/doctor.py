"""`llmjp doctor`: what it asks the API server, and the report. Nothing heavy at import."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmjp_cli.cluster.doctor.checks import RIGHTS, Finding, Found, Level, Unknown
from llmjp_cli.cluster.doctor.models import models, named
from llmjp_cli.cluster.kube import (
    Context,
    Kube,
    Kubeconfig,
    KubeError,
    Namespace,
    NotFound,
    Unreachable,
    models_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmjp_cli.cluster.doctor.checks import Answer

Object = dict[str, Any]
T = TypeVar("T")

_PIPED_WIDTH = 160
_STYLES = {
    Level.OK: "green",
    Level.WARN: "yellow",
    Level.FAIL: "bold red",
    Level.UNKNOWN: "magenta",
}
_PLURALS = {"Secret": "secrets", "ConfigMap": "configmaps"}


def doctor(
    namespace: Namespace = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Whether a cluster, and a namespace in it, has all that models need; reads only.

    What you may not look at is "cannot tell". Ends with exit code 1 if something fails.

    Example: llmjp doctor -n team-a
    """
    with closing(Kube.connect(kubeconfig, context)) as kube:
        findings = examine(kube, namespace or kube.namespace)
    if as_json:
        rows = [
            {"check": f.check, "level": f.level.value, "message": f.message, "mend": f.mend}
            for f in findings
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False))
    else:
        _report(findings)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(1)


def examine(kube: Kube, namespace: str) -> list[Finding]:
    """All findings."""
    from llmjp_cli.cluster.doctor.checks import cluster
    from llmjp_cli.cluster.doctor.gpus import gpus

    try:
        kube.get("/version")
    except Unreachable as exc:
        mend = "check $KUBECONFIG, its current context, and the way to the cluster"
        return [Finding("API server", Level.FAIL, str(exc), mend)]
    except KubeError:
        pass  # closed to this user, like other things: the finding says so
    found = gather(kube, namespace)
    return [*cluster(found), *gpus(found), *models(found)]


def gather(kube: Kube, namespace: str) -> Found:
    """Everything that is looked at, once."""
    from llmjp_operator.names import CRD, LEASE

    space = f"namespaces/{namespace}"
    operators = _ask(
        lambda: kube.items(
            "/apis/apps/v1/deployments",
            {"labelSelector": "app.kubernetes.io/name=llmjp-operator"},
        )
    )
    home = "llmjp-system"
    if not isinstance(operators, Unknown) and operators:
        home = operators[0]["metadata"]["namespace"]
    found_models = _ask(lambda: kube.items(models_path(namespace)))
    return Found(
        namespace=namespace,
        version=_ask(lambda: kube.get("/version")),
        definition=_maybe(kube, f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD}"),
        operators=operators,
        lease=_maybe(kube, f"/apis/coordination.k8s.io/v1/namespaces/{home}/leases/{LEASE}"),
        rights={asked: _may(kube, namespace, asked) for asked in RIGHTS},
        nodes=_ask(lambda: kube.items("/api/v1/nodes")),
        pods=_ask(
            lambda: kube.items(
                "/api/v1/pods", {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
            )
        ),
        runtime_classes=_ask(lambda: kube.items("/apis/node.k8s.io/v1/runtimeclasses")),
        storage_classes=_ask(lambda: kube.items("/apis/storage.k8s.io/v1/storageclasses")),
        space=_maybe(kube, f"/api/v1/{space}"),
        policies=_ask(lambda: kube.items(f"/apis/networking.k8s.io/v1/{space}/networkpolicies")),
        models=found_models,
        claims=_ask(lambda: kube.items(f"/api/v1/{space}/persistentvolumeclaims")),
        exists={
            (kind, name): _exists(kube, f"/api/v1/{space}/{_PLURALS[kind]}/{name}")
            for body in (() if isinstance(found_models, Unknown) else found_models)
            for kind, name in named(body)
        },
        now=kube.now(),
    )


def _ask(question: Callable[[], T]) -> Answer[T]:
    """What is found; Unknown where one may not know."""
    try:
        return question()
    except KubeError as exc:
        return Unknown(str(exc))


def _maybe(kube: Kube, path: str) -> Answer[Object | None]:
    """An object; None where there is none."""
    try:
        return kube.get(path)
    except NotFound:
        return None
    except KubeError as exc:
        return Unknown(str(exc))


def _exists(kube: Kube, path: str) -> Answer[bool]:
    """Whether an object is there; of a Secret nothing is read but its metadata."""
    try:
        kube.get(path, accept="application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
    except NotFound:
        return False
    except KubeError as exc:
        return Unknown(str(exc))
    return True


def _may(kube: Kube, namespace: str, asked: tuple[str, str, str]) -> Answer[bool]:
    verb, group, resource = asked
    name, _, sub = resource.partition("/")
    attributes = {
        "namespace": namespace,
        "verb": verb,
        "group": group,
        "resource": name,
        "subresource": sub,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    return _ask(lambda: bool(kube.create(path, review)["status"]["allowed"]))


def _report(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for finding in findings:
        said = Text(finding.message)
        if finding.mend:
            said.append(f"\n{finding.mend}", style="dim" if finding.level is Level.OK else "cyan")
        table.add_row(
            Text(finding.level.value, style=_STYLES[finding.level]), Text(finding.check), said
        )
    console.print(table)
    counts = {level: sum(f.level is level for f in findings) for level in Level}
    console.print(", ".join(f"{n} {level.value}" for level, n in counts.items() if n))
