"""Writes what is derived from the code.

JSON Schemas of the contracts are made here, the custom resource's definition and reference page
in `llmjp_operator.crd`, what belongs to the chart in `scripts.chart_files`.

python scripts/generate.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

from llmjp_builder.contracts import spec
from llmjp_builder.contracts.schema import build_contract_schema
from llmjp_operator.crd.files import render_crd_files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.chart_files import NoHelm, derive_files, find_tools, render_files  # noqa: E402  as a script, too

SCHEMAS = "docs/schemas"
CONTRACTS: tuple[type, ...] = (
    spec.BuildSpec,
    spec.Manifest,
    spec.Progress,
    spec.Resolution,
    spec.Built,
    spec.Failure,
)


def schemas() -> dict[str, str]:
    """The contracts' schemas, by path in the repository."""
    return {
        f"{SCHEMAS}/{contract.__name__}.json": spec.to_pretty_json(build_contract_schema(contract))
        for contract in CONTRACTS
    }


def generated() -> dict[Path, str]:
    """Every generated file that needs no helm, and what should be in it."""
    files = {**schemas(), **render_crd_files(), **derive_files()}
    return {ROOT / name: text for name, text in files.items()}


def rendered() -> dict[Path, str]:
    """What helm makes of the chart; nothing where there is no helm, which is said."""
    try:
        files = render_files(find_tools() / "helm")
    except NoHelm as exc:
        print(f"the chart is not rendered: {exc}", file=sys.stderr)
        return {}
    return {ROOT / name: text for name, text in files.items()}


def main(arguments: list[str]) -> int:
    """The exit code: 1 if `--check` finds a file that is not current."""
    check = "--check" in arguments
    # helm reads the CRD and the schema, which are written before.
    return max(_settle(generated(), check=check), _settle(rendered(), check=check))


def _settle(files: dict[Path, str], *, check: bool) -> int:
    stale = {
        path: text
        for path, text in files.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        if check:
            print(f"{path}: not current; run make generate", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
