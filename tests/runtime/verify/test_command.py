"""`llmjp verify`: what it prints and exits with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from llmjp_builder.contracts.spec import Backend, BuildSpec, Source
from llmjp_builder.pipeline import build
from llmjp_cli.commands.verify import verify_checkpoint
from llmjp_cli.exit_codes import run_command_line

from .models import TINY, Pair, random_pair, spoilt, tiny_pair

PROMPTS = "日本の首都はどこですか。\n\n3足す4はいくつですか。\n"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return tiny_pair(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(verify_checkpoint)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run_command_line(lambda: app([str(argument) for argument in arguments]))
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text(PROMPTS, encoding="utf-8")
    return path


def test_a_sound_checkpoint(pair: Pair, command: Command, prompts: Path) -> None:
    code, out, err = command(
        pair.plain, "--reference", TINY, "--prompts", prompts, "--max-tokens", 4, "--device", "cpu"
    )
    assert code == 0
    assert out.splitlines()[-1] == "PASS"
    assert "2 prompts, " in out
    assert "2 of 2 are the same" in out
    assert json.loads(err.splitlines()[-1]) == {
        "step": "verify",
        "percent": 100.0,
        "eta_seconds": 0.0,
    }


def test_built_in_prompts_and_an_artefact(command: Command, tmp_path: Path) -> None:
    spec = BuildSpec(source=Source(path=str(TINY)), backend=Backend.TORCH, tensor_parallel=2)
    artefact = build(spec, store=tmp_path / "store").path
    code, out, _ = command(artefact, "--reference", TINY, "--max-tokens", 1, "--json")
    document = json.loads(out)
    assert (code, document["verdict"], document["num_prompts"]) == (0, "pass", 16)
    (artefact / "rank1.safetensors").chmod(0o600)
    (artefact / "rank1.safetensors").write_bytes(b"")
    code, out, err = command(artefact, "--reference", TINY)
    assert (code, out) == (3, "")
    assert "rank1.safetensors has 0 bytes" in err


def test_fp8_passes_unless_limits_say_otherwise(pair: Pair, command: Command) -> None:
    arguments = (pair.fp8, "--reference", TINY, "--max-tokens", 2)
    code, out, _ = command(*arguments)
    assert code == 0
    assert "weights stored as fp8" in out
    code, out, err = command(*arguments, "--max-part-error", 0.01, "--json")
    document = json.loads(out)
    assert (code, document["verdict"]) == (3, "fail")
    assert document["limits"]["part_error"] == 0.01
    assert document["failures"][0] in err


def test_a_spoilt_checkpoint(pair: Pair, command: Command, tmp_path: Path, prompts: Path) -> None:
    name = "transformer.layers.3.mlp.proj.weight"
    bad = spoilt(pair.plain, tmp_path / "bad", lambda ranks: ranks.insert(0, ranks.pop()))
    whole_ranks = command(bad, "--reference", TINY, "--prompts", prompts, "--max-tokens", 2)
    assert whole_ranks[0] == 3

    def exchange(ranks: list[dict[str, object]]) -> None:
        ranks[0][name], ranks[1][name] = ranks[1][name], ranks[0][name]

    bad = spoilt(pair.plain, tmp_path / "one", exchange)  # type: ignore[arg-type]
    code, out, err = command(bad, "--reference", TINY, "--prompts", prompts, "--max-tokens", 8)
    assert code == 3
    assert out.splitlines()[-1] == "FAIL"
    assert "  layer 3 mlp: error " in out
    assert "greedy replies" in out
    last = err.splitlines()[-1]
    assert last.startswith(f"llmjp: {bad} does not match its reference: layer 3 mlp: error ")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nowhere", "--reference", TINY], 3, "nowhere/config.json: cannot be read"),
        (["PLAIN", "--reference", "nowhere"], 3, "no tokenizer.json in "),
        (["PLAIN", "--reference", TINY, "--prompts", "nowhere"], 3, "nowhere: cannot be read"),
        (["PLAIN", "--reference", TINY, "--device", "cuda:99"], 2, "device cuda:99 is not there"),
        (["PLAIN", "--reference", TINY, "--max-tokens", 4000], 3, "exceed the context of 512"),
        (["PLAIN", "--reference", TINY, "--max-tokens", 0], 2, "--max-tokens"),
        (["PLAIN"], 2, "--reference"),
    ],
)
def test_bad_input(
    pair: Pair, command: Command, arguments: list[object], code: int, says: str
) -> None:
    given = [pair.plain if argument == "PLAIN" else argument for argument in arguments]
    found, out, err = command(*given)
    assert (found, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("content", "says"), [(b"\n \n", "holds no"), (b"\xff", "not UTF-8 at")])
def test_bad_prompt_files(
    pair: Pair, command: Command, tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "p.txt").write_bytes(content)
    code, _, err = command(pair.plain, "--reference", TINY, "--prompts", tmp_path / "p.txt")
    assert code == 3
    assert says in err


def test_another_models_reference(command: Command, pair: Pair, tmp_path: Path) -> None:
    other = random_pair(tmp_path)
    (other.reference / "tokenizer.json").write_bytes((TINY / "tokenizer.json").read_bytes())
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (other.reference / name).write_bytes((TINY / name).read_bytes())
    code, _, err = command(pair.plain, "--reference", other.reference)
    assert code == 3
    assert "vocab_size is 4096, the reference has 211" in err
