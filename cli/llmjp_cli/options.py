"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# Where the cluster is.

Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", show_default="the context's", help="Namespace of the models."
    ),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        show_default="$KUBECONFIG, a pod's own credentials, or ~/.kube/config",
        help="File with the credentials for the cluster.",
    ),
]
Context = Annotated[
    str | None, typer.Option(show_default="the current one", help="Context of the kubeconfig.")
]
