"""`llmjp store ls|gc|remove|check` as a person and a program read them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from llmjp_builder.contracts.spec import BuildSpec, Source
from llmjp_builder.pipeline import BuildResult, build
from llmjp_builder.store.leases import read_leases, record_lease, release_lease
from llmjp_cli.units import parse_duration, parse_size
from tests.engine_builder.checkpoints import tree
from tests.engine_builder.command_line import CommandLine


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def artefacts(source: Path, store: Path) -> tuple[BuildResult, BuildResult]:
    """One that nobody uses, and one that was just built."""
    one, two = (
        build(BuildSpec(source=Source(path=str(source)), tensor_parallel=tp), store=store)
        for tp in (1, 2)
    )
    then = time.time() - 3 * 86_400
    release_lease(store, one.key, "llmjp build", now=then, label="hf")
    for path in (one.path, *one.path.rglob("*")):
        os.utime(path, (then, then))
    return one, two


def test_ls(artefacts: tuple[BuildResult, BuildResult], store: Path, llmjp: CommandLine) -> None:
    one, two = artefacts
    record_lease(store, two.key, "serving/pod-7")
    lines = llmjp("store-ls", "--store", store).out.splitlines()
    assert lines[0].split() == [
        *("NAME", "KIND", "MODEL", "LAYOUT", "WEIGHTS", "SIZE", "LAST", "USE", "IN", "USE", "BY")
    ]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert set(rows) == {one.key, two.key}
    assert "tp 2 pp 1" in rows[two.key]
    assert rows[two.key].endswith("llmjp build, serving/pod-7")
    assert " hf " in rows[one.key]
    assert "log" not in rows


def test_ls_as_json(
    artefacts: tuple[BuildResult, BuildResult], store: Path, llmjp: CommandLine
) -> None:
    listed = {
        row["name"]: row for row in json.loads(llmjp("store-ls", "--store", store, "--json").out)
    }
    _, two = artefacts
    assert listed[two.key] == {
        "name": two.key,
        "kind": "ranks",
        "model": "hf",
        "tensor_parallel": 2,
        "pipeline_parallel": 1,
        "dtype": "bfloat16",
        "quantization": "none",
        "kv_cache": "auto",
        "bytes": sum(len(data) for data in tree(two.path).values()),
        "last_use": pytest.approx(time.time(), abs=60),
        "in_use_by": ["llmjp build"],
    }


def test_ls_of_everything(source: Path, store: Path, llmjp: CommandLine) -> None:
    build(BuildSpec(source=Source(path=str(source))), store=store)
    (store / "logs").mkdir()
    (store / "logs" / "x.compile.log").write_text("said")
    rows: list[dict[str, Any]] = json.loads(
        llmjp("store-ls", "--store", store, "--all", "--json").out
    )
    assert [row["kind"] for row in rows] == ["ranks", "log"]


def test_gc(artefacts: tuple[BuildResult, BuildResult], store: Path, llmjp: CommandLine) -> None:
    one, two = artefacts
    planned = llmjp("store-gc", "--store", store, "--older-than", "2d", "--dry-run")
    assert one.path.exists()
    assert (one.key in planned.out, "would be freed" in planned.out) == (True, True)
    done = llmjp("store-gc", "--store", store, "--older-than", "2d")
    assert one.key in done.out
    assert (one.path.exists(), two.path.exists()) == (False, True)
    rest = llmjp("store-gc", "--store", store, "--keep-bytes", "0")
    assert (rest.exit_code, two.path.exists()) == (0, True)
    assert f"kept, in use: {two.key}  llmjp build" in rest.err
    assert "all of it is in use" in rest.err


def test_gc_as_json_keeps_named_items(
    artefacts: tuple[BuildResult, BuildResult], store: Path, llmjp: CommandLine
) -> None:
    one, two = artefacts
    options = ("--keep-bytes", "0", "--keep", one.key, "--json")
    said = json.loads(llmjp("store-gc", "--store", store, *options).out)
    assert [row["name"] for row in said["in_use"]] == [one.key, two.key]
    assert (said["removed"], one.path.exists()) == ([], True)


def test_remove(
    artefacts: tuple[BuildResult, BuildResult], store: Path, llmjp: CommandLine
) -> None:
    one, two = artefacts
    remove = ("store-remove", "--store", store)
    planned = llmjp(*remove, one.key, "--dry-run")
    assert "would be freed" in planned.out
    assert one.path.exists()
    done = llmjp(*remove, one.key, two.key, "0" * 20)
    assert (done.exit_code, one.path.exists(), two.path.exists()) == (0, False, True)
    assert one.key in done.out
    assert f"kept, in use: {two.key}  llmjp build" in done.err
    assert f"not there: {'0' * 20}" in done.err
    assert read_leases(store, one.key) == []


def test_remove_what_was_just_built(
    artefacts: tuple[BuildResult, BuildResult], store: Path, llmjp: CommandLine
) -> None:
    """The operator's own Job: the hour's grace of a build is over, other users still count."""
    one, two = artefacts
    remove = ("store-remove", "--store", store, "--after-build", "--json")
    record_lease(store, two.key, "serving/pod-7")
    planned = json.loads(llmjp(*remove, "--dry-run", two.key).out)
    assert [row["name"] for row in planned["in_use"]] == [two.key]
    release_lease(store, two.key, "serving/pod-7", now=time.time())

    planned = json.loads(llmjp(*remove, "--dry-run", two.key).out)
    assert [row["name"] for row in planned["removed"]] == [two.key]
    assert two.path.exists()
    said = json.loads(llmjp(*remove, two.key, two.key, "gone", "gone").out)
    assert [row["name"] for row in said["removed"]] == [two.key]
    assert said["not_there"] == ["gone"]
    assert (one.path.exists(), two.path.exists()) == (True, False)


def test_check(artefacts: tuple[BuildResult, BuildResult], store: Path, llmjp: CommandLine) -> None:
    one, two = artefacts
    whole = llmjp("store-check", "--store", store)
    assert (whole.exit_code, whole.out.count(" ok\n")) == (0, 2)
    data = bytearray((one.path / "rank0.safetensors").read_bytes())
    data[-1] ^= 1
    (one.path / "rank0.safetensors").write_bytes(data)
    damaged = llmjp("store-check", "--store", store)
    assert (damaged.exit_code, damaged.out.count(" ok\n")) == (3, 1)
    assert "1 of 2 damaged" in damaged.complaint
    assert llmjp("store-check", "--store", store, two.key).exit_code == 0
    [row] = json.loads(llmjp("store-check", "--store", store, one.key, "--json").out)
    assert "its contents are not what the manifest says" in row["fault"]


def test_check_of_what_is_not_there(store: Path, llmjp: CommandLine) -> None:
    ended = llmjp("store-check", "--store", store, "0" * 20)
    assert ended.exit_code == 3
    assert f"no artefact or source {'0' * 20}" in ended.complaint


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("1000", 1000), ("500G", 500 * 10**9), ("1.5Ti", 3 * 2**39), ("2kiB", None)],
)
def test_sizes(text: str, number: int | None) -> None:
    if number is None:
        with pytest.raises(typer.BadParameter):
            parse_size(text)
    else:
        assert parse_size(text) == number


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 2_592_000), ("1.5h", 5400), ("90m", 5400), ("1", None)]
)
def test_durations(text: str, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(typer.BadParameter):
            parse_duration(text)
    else:
        assert parse_duration(text) == seconds


@pytest.mark.parametrize("option", [("--keep-bytes", "much"), ("--older-than", "old")])
def test_usage(option: tuple[str, str], store: Path, llmjp: CommandLine) -> None:
    assert llmjp("store-gc", "--store", store, *option).exit_code == 2
