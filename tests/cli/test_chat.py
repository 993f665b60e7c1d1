"""`llmjp chat`, `generate` and `bench` against a fake server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import typer
from typer.testing import CliRunner

from llmjp_cli.commands.bench import benchmark_endpoint
from llmjp_cli.commands.chat import chat_with_model, converse
from llmjp_cli.commands.generate import generate_text
from llmjp_cli.endpoint import connect
from llmjp_cli.options import EndpointOptions
from llmjp_client import Chunk, InvalidRequest, Overloaded, Unavailable
from llmjp_client.testing import FakeRequest, FakeServer, StatusError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

APP = typer.Typer()
APP.command("chat")(chat_with_model)
APP.command("generate")(generate_text)
APP.command("bench")(benchmark_endpoint)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(["東京", "です", "。"]) as server:
        yield server


def llmjp(*arguments: str, server: FakeServer | None = None, stdin: str = "") -> Result:
    endpoint = {"LLMJP_ENDPOINT": server.endpoint} if server else {}
    return CliRunner().invoke(APP, arguments, input=stdin, env=endpoint)


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_generate(server: FakeServer, stream: str) -> None:
    result = llmjp(
        "generate",
        "首都は",
        stream,
        "--max-tokens",
        "8",
        "--stop",
        "\n",
        "--seed",
        "3",
        server=server,
    )
    assert (result.exit_code, result.stdout) == (0, "東京です。\n")
    (request,) = server.requests
    assert (request.prompt, request.streaming) == ("首都は", stream == "--stream")
    assert request.options == {"max_tokens": 8, "stop": ["\n"], "seed": 3}


def test_generate_reads_stdin_and_writes_json(server: FakeServer) -> None:
    result = llmjp("generate", "-", "--json", server=server, stdin="一行目\n二行目\n")
    answer = json.loads(result.stdout)
    assert (answer["text"], answer["finish_reason"]) == ("東京です。", "stop")
    assert answer["usage"] == {"input_tokens": 7, "output_tokens": 3}
    assert server.requests[0].prompt == "一行目\n二行目"


@pytest.mark.parametrize(
    ("arguments", "stdin"), [(["--message", "首都は?"], ""), ([], "首都は?\n")]
)
def test_one_turn(server: FakeServer, arguments: list[str], stdin: str) -> None:
    result = llmjp("chat", *arguments, "--system", "簡潔に", server=server, stdin=stdin)
    assert (result.exit_code, result.stdout) == (0, "東京です。\n")
    assert server.requests[0].prompt == (
        {"role": "system", "content": "簡潔に"},
        {"role": "user", "content": "首都は?"},
    )


def test_errors_reach_the_edge(server: FakeServer) -> None:
    with FakeServer() as gone:
        pass
    refused = llmjp("generate", "x", server=gone)
    assert isinstance(refused.exception, Unavailable)
    invalid = llmjp("generate", "x", "--seed", "-1", server=server)
    assert isinstance(invalid.exception, InvalidRequest)


@pytest.mark.parametrize("name", ["chat", "generate", "bench"])
def test_an_endpoint_that_is_none_is_a_usage_error(name: str) -> None:
    prompt = ["x"] if name == "generate" else []
    result = llmjp(name, *prompt, "--endpoint", "http://localhost:8000", stdin="x")
    assert result.exit_code == 2


def run_session(
    monkeypatch: pytest.MonkeyPatch, server: FakeServer, *lines: str | type[BaseException]
) -> None:
    """An interactive session in which a person types `lines`."""
    typed = iter(lines)

    def line(prompt: str) -> str:
        match next(typed, EOFError):
            case str(text):
                return text
            case error:
                raise error

    monkeypatch.setattr("builtins.input", line)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with connect(EndpointOptions(endpoint=server.endpoint, timeout=60)) as client:
        converse(client, [], {})


def test_a_conversation_says_each_warning_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warned = Chunk("東京", warnings=("messages[0]: dropped",))
    with FakeServer([warned, "です"]) as server:
        run_session(monkeypatch, server, "一", "二")
    said = capsys.readouterr()
    assert said.out == "東京です\n東京です\n"
    assert said.err.count("llmjp: warning: messages[0]: dropped\n") == 1


def contents(request: FakeRequest) -> list[Any]:
    return [turn["content"] for turn in request.prompt if isinstance(turn, dict)]


def test_a_conversation_remembers_and_forgets(
    monkeypatch: pytest.MonkeyPatch, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run_session(
        monkeypatch, server, "一", "", "二", "/reset", KeyboardInterrupt, "三", "/exit", "四"
    )
    assert [contents(request) for request in server.requests] == [
        ["一"],
        ["一", "東京です。", "二"],
        ["三"],
    ]
    assert capsys.readouterr().out == "東京です。\n" * 3


def test_a_failed_turn_is_dropped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(request: FakeRequest) -> Iterator[str]:
        if contents(request)[-1] == "失敗":
            raise StatusError(grpc.StatusCode.INTERNAL, "the engine failed")
        yield "はい"

    with FakeServer(script) as server:
        run_session(monkeypatch, server, "失敗", "二")
        assert contents(server.requests[-1]) == ["二"]
    assert "the engine failed" in capsys.readouterr().err


def test_ctrl_c_stops_the_reply_and_not_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(request: FakeRequest) -> Iterator[str]:
        yield "はい"
        if len(contents(request)) == 1:
            request.cancelled.wait(10)

    echo = typer.echo
    interrupts = iter([KeyboardInterrupt])

    def interrupted(message: str = "", **options: Any) -> None:
        echo(message, **options)
        if message == "はい":
            for interrupt in interrupts:
                raise interrupt

    monkeypatch.setattr(typer, "echo", interrupted)
    with FakeServer(script) as server:
        run_session(monkeypatch, server, "一", "二")
        assert server.requests[0].cancelled.wait(10)
        assert contents(server.requests[1]) == ["一", "はい", "二"]
    assert capsys.readouterr().out == "はい\nはい\n"


def test_bench(server: FakeServer, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("一\n\n二\n", "utf-8")
    result = llmjp(
        *("bench", "--json", "-n", "6", "-c", "3", "--raw", "--prompts", str(prompts)),
        server=server,
    )
    measured = json.loads(result.stdout)
    assert (measured["replies"], measured["output_tokens"], measured["failures"]) == (6, 18, {})
    assert measured["tokens_per_arrival"] == 1.0
    asked = [request.prompt for request in server.requests]
    assert sorted(map(str, asked)) == ["一"] * 4 + ["二"] * 3
    assert asked[0] == "一"


def test_bench_asks_as_a_user(server: FakeServer) -> None:
    result = llmjp("bench", "-n", "1", "--warmup", "0", server=server)
    assert result.exit_code == 0
    (request,) = server.requests
    assert len(contents(request)) == 1
    assert "tokens per arrival" in result.stderr


def test_bench_counts_what_fails() -> None:
    def script(request: FakeRequest) -> Iterator[str]:
        if request.options["seed"] % 2:
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue is full")
        yield "はい"

    with FakeServer(script) as server:
        result = llmjp("bench", "--json", "-n", "4", server=server)
    measured = json.loads(result.stdout)
    assert (measured["replies"], measured["failures"]) == (2, {"Overloaded": 2})
    assert isinstance(result.exception, Overloaded)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff"])
def test_bench_refuses_prompts_it_cannot_read(
    server: FakeServer, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "prompts.txt").write_bytes(content)
    result = llmjp("bench", "--prompts", str(tmp_path / "prompts.txt"), server=server)
    assert result.exit_code == 2
    assert server.requests == []
