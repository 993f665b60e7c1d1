"""The distribution `llmjp-client`: the client alone, from the tree of `llmjp-serving`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import grpc
import pytest

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client"
CACHED_WHEELS = Path.home() / ".cache/llmjp-serving/images/wheels"

TALK = """
import sys
wheel, packages = sys.argv[1:]
sys.path[:0] = [wheel, packages]

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"typer", "rich", "torch", "tokenizers", "llmjp_cli",
                                      "llmjp_builder", "llmjp_runtime", "llmjp_operator"}:
            raise ImportError(f"{name} is not part of llmjp-client")

sys.meta_path.insert(0, Refuse())
import llmjp_client
from llmjp_client.testing import FakeServer
assert llmjp_client.__file__.startswith(wheel), llmjp_client.__file__
with FakeServer(["ok"]) as server, llmjp_client.Client(server.endpoint) as client:
    print(client.chat("x").text, server.requests[0].metadata["user-agent"])
"""


def read_project(folder: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return project


def test_both_distributions_agree() -> None:
    whole, client = read_project(ROOT), read_project(CLIENT)
    extras = whole["optional-dependencies"]
    assert client["dependencies"] == extras["client"]
    assert client["optional-dependencies"]["cluster"] == extras["cluster"][1:]
    for field in ("version", "license", "requires-python", "authors"):
        assert client[field] == whole[field], field
    assert (CLIENT / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.slow
def test_the_wheel_holds_the_client_and_talks(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        needs = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist") or []
        archive.extractall(tmp_path / "installed")
    sources = {str(p.relative_to(CLIENT)) for p in CLIENT.rglob("*.py")}
    assert names == sources | {"llmjp_client/py.typed"}
    always = {need.partition("<")[0].partition(">")[0] for need in needs if "extra ==" not in need}
    assert always == {"grpcio", "tritonclient[grpc]"}
    assert wheel.stat().st_size < 200_000
    packages = str(Path(grpc.__file__).parents[1])
    talk = [sys.executable, "-I", "-S", "-c", TALK, str(tmp_path / "installed"), packages]
    said = subprocess.run(talk, capture_output=True, text=True, check=False, timeout=120)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(f"ok llmjp-client/{read_project(CLIENT)['version']}")


def build_wheel(folder: Path) -> Path:
    """Build in a copy, so that nothing is left in the tree."""
    copy = folder / "client"
    shutil.copytree(CLIENT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    cached = ["--find-links", str(CACHED_WHEELS)] if CACHED_WHEELS.is_dir() else []
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", *cached, "-w", str(folder)]
    built = subprocess.run(
        [*pip, str(copy)], capture_output=True, text=True, check=False, timeout=300
    )
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip("the build backend, hatchling, is not to be had without a network")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel
