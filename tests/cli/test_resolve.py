"""`llmjp resolve`."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import typer

from llmjp_cli.commands.resolve import resolve_source
from llmjp_cli.exit_codes import run_command_line
from tests.engine_builder.sources.conftest import REPOSITORY, checkpoint, needed, write_files
from tests.support.hub import Hub

Object = dict[str, Any]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        yield server


def _llmjp(*arguments: str) -> int:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(resolve_source)
    return run_command_line(lambda: app(list(arguments)))


def test_a_repository(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    token = tmp_path / "token"
    token.write_text("hf_right\n")
    with Hub() as hub:
        commit = hub.publish(REPOSITORY, checkpoint(), access="gated", branch="v1")
        arguments = ("--revision", "v1", "--endpoint", hub.endpoint, "--token-file", str(token))
        assert _llmjp(REPOSITORY, *arguments) == 0
    [line] = capfd.readouterr().out.splitlines()
    answer = json.loads(line)
    assert answer["source"] == {"repository": REPOSITORY, "revision": commit}
    assert set(answer["files"]) == set(needed())


def test_a_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_files(tmp_path / "m", checkpoint())
    assert _llmjp(str(tmp_path / "m")) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["source"] == {"path": str(tmp_path / "m")}
    assert len(answer["digest"]) == 20


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("llm-jp/llm-jp-3-172b-instruct3",), 5, "--accept-licence llm-jp-3-172b-instruct3-tou"),
        (("./none",), 3, "no such folder"),
        ((REPOSITORY, "--endpoint", "nonsense"), 2, "endpoint"),
        ((REPOSITORY, "--token-file", "./none"), 3, "./none".removeprefix("./")),
    ],
)
def test_refused(
    capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], exit_code: int, words: str
) -> None:
    assert _llmjp(*arguments) == exit_code
    output = capfd.readouterr()
    assert not output.out
    assert words in output.err
    assert len(output.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("config.json", {"rope_scaling": {"type": "dynamic"}}, "rope_type is 'dynamic'"),
        ("tokenizer.json", {"decoder": None}, "decoder [] is not supported"),
        ("tokenizer_config.json", {"chat_template": "{% do x %}"}, "the tag {% do %} is unknown"),
    ],
)
@pytest.mark.parametrize("where", ["hub", "folder"])
def test_what_no_server_takes(
    where: str, name: str, change: Object, words: str, tmp_path: Path, hub: Hub
) -> None:
    """The termination message has it, which the operator shows."""
    files = checkpoint()
    files[name] = json.dumps({**json.loads(files[name]), **change}).encode()
    write_files(tmp_path / "m", files)
    hub.publish(REPOSITORY, files)
    named = [REPOSITORY, "--endpoint", hub.endpoint] if where == "hub" else [str(tmp_path / "m")]
    assert _llmjp(*named, "--termination-message", str(tmp_path / "said")) == 6
    failure = json.loads((tmp_path / "said").read_text())
    assert (failure["code"], failure["retryable"]) == ("unsupported", False)
    assert words in failure["message"]
    assert hub.asked_for("*.safetensors") == []


def test_the_module_is_light() -> None:
    program = "import sys, llmjp_cli.commands.resolve; print([m for m in sys.modules if m in %r])"
    heavy = ("torch", "numpy", "huggingface_hub", "safetensors")
    found = subprocess.run(
        [sys.executable, "-c", program % (heavy,)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
