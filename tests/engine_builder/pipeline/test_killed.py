"""SIGKILL at any moment: the next build finishes, and what it publishes is byte for byte the same.

Moments are system calls that change the store, and points in time. `make soak` takes many.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmjp_builder.contracts.spec import Backend, BuildSpec, Source
from llmjp_builder.pipeline import build
from llmjp_builder.store.store import Store, check_artefact
from tests.engine_builder.checkpoints import tree
from tests.engine_builder.pipeline.conftest import engine_from
from tests.engine_builder.quantize.calibration.models import add_letters, written
from tests.support.hub import Hub
from tests.support.soak import count

pytestmark = pytest.mark.slow

CHILD = """
import os, signal, sys
n, spec, store = int(sys.argv[1]), sys.argv[2], sys.argv[3]
from llmjp_cli.__main__ import main
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate"}
count = 0
def hook(event, arguments):
    global count
    names = [str(a) for a in arguments if isinstance(a, (str, os.PathLike))]
    inside = any(store in name and "progress.json" not in name for name in names)
    if event == "subprocess.Popen" or (event in EVENTS and inside):
        count += 1
        if count == n:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
sys.argv = ["llmjp", "build", "--spec", spec, "--store", store]
try:
    main()
finally:
    print("events", count)
"""


@dataclass(frozen=True)
class Case:
    """A build to be killed."""

    spec: BuildSpec
    file: Path
    """The spec as JSON."""
    place: Path

    def start(self, store: Path, n: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, str(n), str(self.file), str(store)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def undisturbed(self) -> tuple[dict[str, bytes], int, float]:
        """The artefacts, the number of moments, and the seconds that it takes."""
        began = time.monotonic()
        with self.start(self.place / "whole", 0) as child:
            out, _ = child.communicate()
        assert child.returncode == 0
        events = int(out.split("events")[1])
        return artefacts(self.place / "whole"), events, time.monotonic() - began

    def dies(self, store: Path, n: int, after_s: float | None) -> bool:
        """Kills a build at its n-th moment, or after so many seconds; False if it ended before."""
        with self.start(store, n) as child:
            try:
                child.communicate(timeout=after_s)
            except subprocess.TimeoutExpired:
                child.kill()
                child.communicate()
        return child.returncode == -signal.SIGKILL

    def finishes(self, store: Path) -> dict[str, bytes]:
        """The artefacts after the next build, with nothing of the killed one left."""
        check_artefact(build(self.spec, store=store).path)
        assert list((store / "work").iterdir()) == []
        assert not list(store.glob("sources/*.partial"))
        assert not list(store.glob("calibrations/*.partial"))
        return artefacts(store)


def artefacts(store: Path) -> dict[str, bytes]:
    """Every file of every artefact, but of TensorRT engines, which differ, only that they exist."""
    found = tree(store / "artefacts")
    for name in [name for name in found if name.endswith(".engine")]:
        found[name] = b""
        key, _, file = name.partition("/")
        manifest = json.loads(found[f"{key}/manifest.json"])
        del manifest["files"][file]
        found[f"{key}/manifest.json"] = json.dumps(manifest).encode()
    return found


def assert_whole(store: Path) -> None:
    """Everything that looks like a result is one."""
    for key in Store(store).list_keys():
        check_artefact(Store(store).get_path(key))
    for marker in store.glob("sources/*/source.json"):
        if not marker.parent.name.endswith(".partial"):
            said = json.loads(marker.read_text())
            sizes = {name: record["size"] for name, record in said["files"].items()}
            assert sizes == {name: (marker.parent / name).stat().st_size for name in sizes}


CASES = ["engine from a hub", "calibrated FP8 for vLLM"]


@pytest.fixture(params=CASES[: count(1, 2)])
def case(request: pytest.FixtureRequest, gpu_machine: None, hub: Hub, tmp_path: Path) -> Case:
    if request.param == "engine from a hub":
        spec = engine_from(hub)
    else:
        texts = tmp_path / "texts.txt"
        texts.write_text("いろはにほへと\n\nちりぬるを\n", encoding="utf-8")
        spec = BuildSpec(
            source=Source(path=str(add_letters(written(tmp_path / "letters")))),
            backend=Backend.VLLM,
            quantization="fp8",
            kv_cache="fp8",
            calibration=str(texts),
        )
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec.to_json()))
    return Case(spec, file, tmp_path)


def test_killed_at_a_change_of_the_store(case: Case, tmp_path: Path) -> None:
    whole, events, _ = case.undisturbed()
    chosen = random.Random(11).sample(range(1, events), count(3, min(60, events - 1)))
    for n in sorted({*chosen, events}):
        store = tmp_path / f"at{n}"
        assert case.dies(store, n, None)
        assert_whole(store)
        assert case.finishes(store) == whole


def test_killed_after_any_time(case: Case, tmp_path: Path) -> None:
    whole, _, seconds = case.undisturbed()
    chance = random.Random(12)
    for i in range(count(2, 60)):
        store = tmp_path / f"time{i}"
        case.dies(store, 0, chance.uniform(0.3, 1.1) * seconds)
        assert_whole(store)
        assert case.finishes(store) == whole


def test_killed_again_and_again(case: Case, tmp_path: Path) -> None:
    """Every build gets further than the one before, or at least no further away."""
    whole, events, _ = case.undisturbed()
    store, step = tmp_path / "again", max(1, events // count(3, 25))
    for n in range(step, events, step):
        case.dies(store, n, None)
        assert_whole(store)
    assert case.finishes(store) == whole
