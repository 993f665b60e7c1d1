"""`llmjp plan` as a person and as a machine run it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from llmjp_cli.commands.plan import plan_deployment
from llmjp_cli.exit_codes import run_command_line
from tests.engine_builder.checkpoints import Tiny, write_checkpoint
from tests.engine_builder.command_line import Ended

Command = Callable[..., Ended]


@pytest.fixture
def llmjp_plan(capsys: pytest.CaptureFixture[str]) -> Command:
    def command(*arguments: str | Path) -> Ended:
        app = typer.Typer(pretty_exceptions_enable=False)
        app.command()(plan_deployment)
        exit_code = run_command_line(lambda: app([str(argument) for argument in arguments]))
        said = capsys.readouterr()
        return Ended(exit_code, said.out, said.err)

    return command


def test_one_kind_of_gpu(llmjp_plan: Command) -> None:
    ended = llmjp_plan(
        "--size", "172b", "--quantization", "fp8", "--kv-cache", "fp8", "--gpu", "H100"
    )
    assert ended.exit_code == 0
    assert not ended.err
    assert re.search(
        r"^H100 +78\.0 GiB +4 +4 +1 +40\.7 GiB +327,201 +79 +recommended", ended.out, re.MULTILINE
    )
    assert "(the card says 2,444,992,512)" in ended.out
    assert "4808 per rank" in ended.out
    assert ended.last_line == (
        "next: llmjp build CHECKPOINT --store STORE --tp 4 --pp 1 --quantization fp8 --kv-cache fp8"
    )


def test_all_kinds(llmjp_plan: Command, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "a model", Tiny())
    ended = llmjp_plan(folder, "--concurrency", "9")
    assert ended.exit_code == 0
    assert ended.last_line == f"next: llmjp plan '{folder}' --gpu L4 --concurrency 9"
    assert len(re.findall("recommended", ended.out)) == 9


def test_a_backend_is_asked(llmjp_plan: Command, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", Tiny())
    ended = llmjp_plan(folder, "--gpu", "H100", "--backend", "tensorrt")
    assert ended.exit_code == 0
    assert ended.last_line.endswith("--backend tensorrt")
    scaled = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}
    (folder / "config.json").write_text(json.dumps(Tiny().config() | scaled))
    assert llmjp_plan(folder, "--gpu", "H100", "--backend", "torch").exit_code == 0
    ended = llmjp_plan(folder, "--gpu", "H100", "--backend", "tensorrt")
    assert ended.exit_code == 6
    assert "original_max_position_embeddings is missing" in ended.complaint


def test_a_refused_layout_is_explained_and_fails(llmjp_plan: Command) -> None:
    ended = llmjp_plan("--size", "172b", "--quantization", "fp8", "--tp", "8")
    assert ended.exit_code == 6
    assert "parameters     172,400,848,896" in ended.out
    assert ended.complaint.endswith("use --pad-intermediate 16, or --tp 4 --pp 2")


def test_json_comes_whole_also_with_a_failure(llmjp_plan: Command) -> None:
    ended = llmjp_plan(
        "--size", "172b", "--tp", "4", "--gpu", "H100", "--gpu", "A100-80GB", "--json"
    )
    assert ended.exit_code == 4
    assert ended.complaint.startswith("llm-jp-3-172b: does not fit on H100, A100-80GB; closest: ")
    document = json.loads(ended.out)
    assert {gpu["gpu"] for gpu in document["gpus"]} == {"H100", "A100-80GB"}
    verdicts = {fit["verdict"] for gpu in document["gpus"] for fit in gpu["fits"]}
    assert verdicts == {"weights_too_large"}


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        ((), 2),
        (("somewhere", "--size", "13b"), 2),
        (("--size", "14b"), 2),
        (("--size", "13b", "--gpu", "H101"), 6),
        (("--size", "13b", "--kv-cache", "fp8"), 2),
        (("--size", "13b", "--tp", "0"), 2),
        (("/nowhere",), 3),
    ],
)
def test_misuse(llmjp_plan: Command, arguments: tuple[str, ...], exit_code: int) -> None:
    ended = llmjp_plan(*arguments)
    assert ended.exit_code == exit_code
    assert ended.err
    assert not ended.out


def test_the_command_is_light() -> None:
    program = "import sys, llmjp_cli.commands.plan; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert not {"numpy", "torch", "safetensors"} & set(done.stdout.split())
