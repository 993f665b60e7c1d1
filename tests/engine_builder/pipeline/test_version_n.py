"""Today's builder makes of the example model what version N made: keys, bytes and messages.

The data is `tests/fixtures/version_n/builder`, and is never made again. Depends on the command
line only, as Jobs do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine_builder.command_line import CommandLine, Ended
from tests.support.shared import ROOT

Object = dict[str, Any]

FOLDER = ROOT / "tests" / "fixtures" / "version_n" / "builder"
MODEL = ROOT / "examples" / "tiny-model" / "checkpoint"
GIVEN = {"AMAX": str(FOLDER / "amax.json"), "TEXTS": str(FOLDER / "texts.txt")}
CASES = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in sorted(FOLDER.glob("*.json"))
    if path.stem not in {"amax", "resolution"}
}
ENGINES = [name for name in CASES if "tensorrt" in CASES[name]["arguments"]]
REFUSED = [name for name, case in CASES.items() if case["exit_code"]]
CHECKPOINTS = [name for name in CASES if name not in {*ENGINES, *REFUSED, "calibrated"}]


def run_build(name: str, llmjp: CommandLine, tmp_path: Path) -> Ended:
    options = [GIVEN.get(option, option) for option in CASES[name]["arguments"]]
    where = ("--store", tmp_path / "store", "--termination-message", tmp_path / "said")
    return llmjp("build", MODEL, *where, *options)


def read_message(tmp_path: Path) -> Object:
    message = json.loads((tmp_path / "said").read_text())
    assert isinstance(message, dict)
    return message


def read_artefact(tmp_path: Path, key: str) -> dict[str, str]:
    folder = tmp_path / "store" / "artefacts" / key
    names = ("manifest.json", "config.json", "hf_quant_config.json")
    return {n: (folder / n).read_text("utf-8") for n in names if (folder / n).exists()}


def steps_of(ended: Ended) -> list[str]:
    lines = [json.loads(line)["step"] for line in ended.err.splitlines() if line.startswith("{")]
    return list(dict.fromkeys(lines))


def without(value: Object, *names: str) -> Object:
    return {name: item for name, item in value.items() if name not in names}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_is_the_same_to_the_byte(
    name: str, llmjp: CommandLine, tmp_path: Path
) -> None:
    """Its manifest has the SHA-256 of every file, weights included."""
    case = CASES[name]
    ended = run_build(name, llmjp, tmp_path)
    assert (ended.exit_code, read_message(tmp_path)) == (0, case["message"]), ended.err
    for key, texts in case["artefacts"].items():
        assert read_artefact(tmp_path, key) == texts
    assert steps_of(ended) == case["steps"]
    progress = json.loads((tmp_path / "store" / "progress.json").read_text())
    assert without(progress, "message") == without(case["progress"], "message")
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == case["store"]


@pytest.mark.usefixtures("gpu_machine")
@pytest.mark.parametrize("name", [name for name in ENGINES if name not in REFUSED])
def test_an_engine_has_the_same_key_and_manifest(
    name: str, llmjp: CommandLine, tmp_path: Path
) -> None:
    """But for what the stand-in compiler writes, which is part of no promise."""
    case = CASES[name]
    ended = run_build(name, llmjp, tmp_path)
    assert ended.exit_code == 0, ended.err
    assert without(read_message(tmp_path), "bytes") == without(case["message"], "bytes")
    for key, texts in case["artefacts"].items():
        ours = read_artefact(tmp_path, key)
        if key == case["message"]["key"]:
            assert comparable(ours["manifest.json"]) == comparable(texts["manifest.json"])
        else:
            assert ours == texts, "its checkpoint"


def comparable(manifest: str) -> Object:
    """An engine's manifest, without sums of what the compiler writes."""
    document = json.loads(manifest)
    files = {
        name: "" if name.startswith(("rank", "config")) else record
        for name, record in document["files"].items()
    }
    return {**without(document, "bytes_per_rank"), "files": files}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("gpu_machine")
def test_a_refusal_has_the_same_code(name: str, llmjp: CommandLine, tmp_path: Path) -> None:
    ended, case = run_build(name, llmjp, tmp_path), CASES[name]
    said = without(read_message(tmp_path), "message")
    assert (ended.exit_code, said) == (case["exit_code"], without(case["message"], "message"))


def test_calibration_is_kept_under_the_same_name(llmjp: CommandLine, tmp_path: Path) -> None:
    """What it finds may differ in a last digit on other machines; where it is looked for, not."""
    assert run_build("calibrated", llmjp, tmp_path).exit_code == 0
    found = sorted(path.name for path in (tmp_path / "store" / "calibrations").iterdir())
    assert found == CASES["calibrated"]["calibrations"]


def test_the_source_is_pinned_to_the_same_digest(llmjp: CommandLine, tmp_path: Path) -> None:
    where = ("--store", tmp_path / "store", "--termination-message", tmp_path / "said")
    assert llmjp("resolve", MODEL, *where).exit_code == 0
    assert read_message(tmp_path) == json.loads((FOLDER / "resolution.json").read_text("utf-8"))
