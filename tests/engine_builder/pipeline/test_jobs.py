"""`llmjp resolve` and `llmjp build` as Jobs run them: what they leave, and how they end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmjp_builder.contracts.errors import BuildTerminated
from llmjp_builder.contracts.spec import (
    Built,
    Failure,
    Manifest,
    Progress,
    Resolution,
    Step,
)
from llmjp_builder.pipeline import build
from llmjp_builder.store import hashing
from llmjp_builder.store.store import Store, check_artefact
from llmjp_cli.termination import reporting_failures
from tests.engine_builder.checkpoints import tree
from tests.engine_builder.command_line import CommandLine
from tests.engine_builder.compile.processes import new_mark, wait_for_count
from tests.engine_builder.pipeline.conftest import MODEL, REPOSITORY, engine_from
from tests.support.hub import Hang, Hub

TOU = "llm-jp/llm-jp-3-172b-instruct3"
ENGINE = ("--backend", "tensorrt", "--tp", "2", "--max-batch-size", "8", "--max-seq-len", "64")


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """The file that Kubernetes reads."""
    return tmp_path / "termination-log"


def failure_in(file: Path) -> Failure:
    return Failure.from_json(json.loads(file.read_text()))


class TestResults:
    def test_a_repository_is_resolved(self, hub: Hub, said: Path, llmjp: CommandLine) -> None:
        ended = llmjp(
            *("resolve", REPOSITORY, "--endpoint", hub.endpoint, "--termination-message", said)
        )
        found = Resolution.from_json(json.loads(said.read_text()))
        answer = json.loads(ended.last_line)
        assert (found.digest, found.revision) == (answer["digest"], answer["source"]["revision"])
        assert found.bytes == sum(file["size"] for file in answer["files"].values())
        assert found.config["hidden_size"] == MODEL.hidden

    def test_a_checkpoint_is_built_and_then_found(
        self, source: Path, said: Path, tmp_path: Path, llmjp: CommandLine
    ) -> None:
        command = ("build", source, "--store", tmp_path / "store", "--tp", "2", "--no-verify")
        for hit in (False, True):
            ended = llmjp(*command, "--termination-message", said)
            path = Path(ended.last_line)
            sizes = (len(data) for name, data in tree(path).items() if name != "manifest.json")
            assert json.loads(said.read_text()) == {
                "key": path.name,
                "kind": "ranks",
                "cache_hit": hit,
                "bytes": sum(sizes),
                "tensor_parallel": 2,
                "pipeline_parallel": 1,
                "made_from": [],
            }

    @pytest.mark.usefixtures("gpu_machine")
    def test_an_engine_says_what_it_runs_on(
        self, source: Path, said: Path, tmp_path: Path, llmjp: CommandLine
    ) -> None:
        command = ("build", source, "--store", tmp_path / "store", *ENGINE)
        llmjp(*command, "--termination-message", said)
        built = Built.from_json(json.loads(said.read_text()))
        assert (built.kind, built.tensor_parallel) == ("engine", 2)
        assert (built.gpu_product, built.compute_capability) == ("NVIDIA-H100-80GB-HBM3", "9.0")
        assert (built.tensorrt_llm, built.tensorrt) == ("1.2.1", "10.14.1.48")

    @pytest.mark.usefixtures("gpu_machine")
    def test_an_engine_says_what_it_was_made_from(
        self, hub: Hub, said: Path, tmp_path: Path, llmjp: CommandLine
    ) -> None:
        """Its names are those by which a Job removes it."""
        store = tmp_path / "store"
        endpoint = ("--endpoint", hub.endpoint)
        llmjp(
            "build", REPOSITORY, *endpoint, "--store", store, *ENGINE, "--termination-message", said
        )
        built = Built.from_json(json.loads(said.read_text()))
        listed = json.loads(llmjp("store-ls", "--store", store, "--all", "--json").out)
        kinds = {row["name"]: row["kind"] for row in listed}
        assert [kinds[name] for name in built.made_from] == ["source", "ranks"]
        remove = ("store-remove", "--store", store, "--after-build")
        llmjp(*remove, built.key, *built.made_from)
        left = {
            row["kind"]
            for row in json.loads(llmjp("store-ls", "--store", store, "--all", "--json").out)
        }
        assert left <= {"log", "timing-cache"}


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("resolve", "o/none"), 5, "bad_token"),
        (("resolve", REPOSITORY, "--revision", "none"), 3, "missing_repository"),
        (("resolve", TOU), 5, "licence_not_accepted"),
        (("resolve", "./none"), 3, "missing_file"),
        (("resolve", REPOSITORY, "--ca-file", "./none"), 3, "missing_file"),
        (("resolve", REPOSITORY, "--ca-file", __file__), 3, "bad_input"),
        (("resolve", REPOSITORY, "--token-file", "./none"), 3, "missing_file"),
        (("build", "o/none", "--store", "s"), 5, "bad_token"),
        (("build", REPOSITORY, "--store", "s", "--ca-file", __file__), 3, "bad_input"),
        (("build", "--store", "s", "--spec", "./none"), 3, "missing_file"),
        (("build", "--store", "s"), 2, "usage"),
        (
            ("build", REPOSITORY, "--store", "s", "--quantization", "fp8", "--calibration", "none"),
            3,
            "missing_file",
        ),
    ],
)
def test_failures(
    arguments: tuple[str, ...],
    exit_code: int,
    code: str,
    hub: Hub,
    said: Path,
    llmjp: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    ended = llmjp(*arguments, "--termination-message", said)
    failure = failure_in(said)
    assert (ended.exit_code, failure.code, failure.step) == (exit_code, code, Step.FETCH)
    assert not failure.retryable


class TestHashesOnce:
    @pytest.fixture(autouse=True)
    def _old_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Files count as unchanged for long enough to be remembered."""
        monkeypatch.setattr(hashing, "_SETTLED_NS", -(10**12))

    def test_a_build_reads_none_of_what_was_resolved_into_its_store(
        self, source: Path, said: Path, tmp_path: Path, llmjp: CommandLine, monkeypatch: Any
    ) -> None:
        store, read = tmp_path / "store", list[Path]()

        def sha256_of(path: Path, on_bytes: Any) -> str:
            read.append(path)
            return really(path, on_bytes)

        really = hashing.compute_sha256
        monkeypatch.setattr(hashing, "compute_sha256", sha256_of)
        before = tree(source)
        llmjp("resolve", source, "--store", store, "--termination-message", said)
        assert {path.name for path in read} == before.keys() - {"README.md"}
        assert [path.name for path in store.iterdir()] == ["cache"]
        read.clear()
        ended = llmjp("build", source, "--store", store)
        assert ended.exit_code == 0
        assert [path for path in read if path.is_relative_to(source)] == []
        assert tree(source) == before
        digest = json.loads(said.read_text())["digest"]
        again = llmjp("resolve", source, "--store", store)
        assert json.loads(again.last_line)["digest"] == digest

    def test_a_store_that_cannot_be_written_to_is_no_obstacle(
        self, source: Path, tmp_path: Path, llmjp: CommandLine
    ) -> None:
        (tmp_path / "store").write_text("no folder")
        assert llmjp("resolve", source, "--store", tmp_path / "store").exit_code == 0


@pytest.mark.usefixtures("gpu_machine")
@pytest.mark.parametrize(
    ("step", "words", "goes_on"),
    [
        ("fetch", "downloading", {"fetch", "convert", "compile"}),
        ("convert", "converting", {"convert", "compile"}),
        ("assemble", "hashing", {"compile"}),
        ("publish", "publishing", {"compile"}),
        ("compile", "", {"compile"}),
    ],
)
def test_terminated_during_a_step(
    step: str, words: str, goes_on: set[str], hub: Hub, said: Path, tmp_path: Path
) -> None:
    """Finished work is kept, unfinished work removed, and the next build resumes."""
    store, seen = tmp_path / "store", list[Progress]()
    spec = engine_from(hub)

    def ask(progress: Progress) -> None:
        seen.append(progress)
        if progress.step == step and words in progress.message:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(BuildTerminated), reporting_failures(said, lambda: seen[-1].step):
        build(spec, store=store, on_progress=ask)
    failure = failure_in(said)
    assert (failure.code, failure.step, failure.retryable) == ("terminated", step, True)
    for key in Store(store).list_keys():
        check_artefact(Store(store).get_path(key))
    assert bool(list(store.glob("work/*"))) == (step in {"assemble", "publish"})
    seen.clear()
    result = build(spec, store=store, on_progress=seen.append)
    check_artefact(result.path)
    worked = {p.step.value for p in seen if p.bytes_total or p.step == "compile"}
    assert worked & {"fetch", "convert", "compile"} == goes_on
    assert not list(store.glob("work/*"))


@contextmanager
def job(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "llmjp_cli", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    """Until it says so."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            return
    pytest.fail("".join(lines))


@pytest.mark.usefixtures("gpu_machine")
def test_a_compilation_ends_with_its_job(
    source: Path, said: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, mark = tmp_path / "store", new_mark()
    name, _, value = mark.partition("=")
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("LLMJP_STANDIN_FAILURE", "hang")
    with job("build", source, "--store", store, *ENGINE, "--termination-message", said) as process:
        wait_for(process, '"compile"')
        wait_for_count(mark, 3)  # the command, the guard, and what it guards
        process.terminate()
        assert process.wait() == 143
    wait_for_count(mark, 0)
    failure = failure_in(said)
    assert (failure.code, failure.step, failure.retryable) == ("terminated", Step.COMPILE, True)
    [key] = Store(store).list_keys()
    assert Manifest.load(Store(store).get_path(key)).kind == "ranks"
    assert not list(store.glob("work/*"))


def test_a_hub_that_hangs_does_not_keep_the_reason_back(
    hub: Hub, source: Path, said: Path, tmp_path: Path
) -> None:
    """The reason is there before the connection ends; Kubernetes may kill the process then."""
    release = threading.Event()
    hub.fail(Hang(1000, release), "*.safetensors", times=2)
    options = ("--endpoint", hub.endpoint, "--termination-message", said)
    with job("build", REPOSITORY, "--store", tmp_path / "store", *options) as process:
        wait_for(process, "downloading")
        while not hub.asked_for("*.safetensors"):
            assert process.poll() is None
        process.terminate()
        while not said.exists() or not said.read_text():
            assert process.poll() is None
        assert failure_in(said).code == "terminated"
        release.set()
        assert process.wait() == 143
    assert failure_in(said).step == Step.FETCH


def test_sums_are_not_finished_first(source: Path, tmp_path: Path) -> None:
    """A file of holes that takes minutes to hash: the process ends in the middle of it."""
    folder = shutil.copytree(source, tmp_path / "large")
    os.truncate(next(folder.glob("*.safetensors")), 1 << 40)
    with job("resolve", folder, "--store", tmp_path / "store") as process:
        wait_for(process, "hashing")
        process.terminate()
        assert process.wait() == 143
