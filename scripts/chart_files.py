"""What is derived from the chart: its README and schema, and with helm the renders in the tree."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from scripts import chart_values

ROOT: Final = Path(__file__).resolve().parents[1]
CHART: Final = "charts/llmjp-operator"
INSTALL: Final = "manifests/install.yaml"
GOLDEN: Final = "tests/charts/golden"
NAMESPACE: Final = "llmjp-system"
CASES: Final = {
    "default": None,
    "namespaced": f"{CHART}/ci/namespaced-values.yaml",
    "ha": f"{CHART}/ci/ha-values.yaml",
    "everything": f"{CHART}/ci/everything-values.yaml",
}
"""Golden renders and the values that they are of."""

_HEAD: Final = f"""# Written by `make generate` from {CHART}; do not edit.
# kubectl apply --server-side --filename={INSTALL}
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""
_GOLDEN_HEAD: Final = "# Written by `make generate`. Without the CustomResourceDefinition.\n"


class NoHelm(Exception):
    """helm can be neither found nor built here; says why."""


def derive_files() -> dict[str, str]:
    """Text by path in the repository, of what needs no helm."""
    tree = chart_values.values(_read(f"{CHART}/values.yaml"))
    readme = chart_values.replaced(
        _read(f"{CHART}/README.md"), {"values": chart_values.table(tree)}
    )
    return {
        f"{CHART}/README.md": readme,
        f"{CHART}/values.schema.json": chart_values.schema(tree, "llmjp-operator"),
    }


def find_tools() -> Path:
    """The folder with helm and what else the chart is tested with; built if need be.

    Raises:
        NoHelm: it cannot be.
    """
    done = subprocess.run(
        [str(ROOT / "scripts/install-helm.sh")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoHelm(done.stderr.strip())
    return Path(done.stdout.strip())


def template(helm: Path, *options: str, release: str = "llmjp-operator") -> str:
    """What `helm template` prints.

    Raises:
        subprocess.CalledProcessError: the chart refused; `stderr` says why.
    """
    command = [str(helm), "template", release, str(ROOT / CHART), f"--namespace={NAMESPACE}"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    return done.stdout


def render_files(helm: Path) -> dict[str, str]:
    """Text by path in the repository."""
    files = {INSTALL: _HEAD + _without_helm(template(helm, "--no-hooks"))}
    for case, values in CASES.items():
        options = [f"--values={ROOT / values}"] if values else []
        files[f"{GOLDEN}/{case}.yaml"] = _GOLDEN_HEAD + _without_crd(template(helm, *options))
    return files


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _without_helm(text: str) -> str:
    """Without the labels by which helm knows its own."""
    labels = r"^ *(app.kubernetes.io/managed-by: Helm|helm.sh/chart: .*)\n"
    return re.sub(labels, "", text, flags=re.MULTILINE)


def _without_crd(text: str) -> str:
    documents = re.split(r"^---\n", text, flags=re.MULTILINE)
    return "---\n".join(d for d in documents if "\nkind: CustomResourceDefinition\n" not in d)
