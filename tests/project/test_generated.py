"""Generated files are current, and say of a document what the code says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmjp_builder.contracts.schema import build_contract_schema
from llmjp_builder.contracts.spec import BuildSpec, Kind
from scripts.generate import ROOT, SCHEMAS, generated, main, schemas


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == generated()[path], "run make generate"


def test_nothing_else_is_there() -> None:
    assert set((ROOT / SCHEMAS).iterdir()) == {ROOT / name for name in schemas()}


def test_the_check_finds_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scripts.generate.ROOT", tmp_path)
    assert main(["--check"]) == 1
    assert "BuildSpec.json: not current" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main([]) == 0
    assert main(["--check"]) == 0


def test_a_schema_says_what_the_decoder_does() -> None:
    schema = build_contract_schema(BuildSpec)
    assert schema["required"] == ["source"]
    assert schema["additionalProperties"] is False
    properties = schema["properties"]
    assert set(properties) == set(BuildSpec.__dataclass_fields__)
    assert properties["source"] == {"$ref": "#/$defs/Source"}
    assert properties["tensor_parallel"] == {"type": "integer", "default": 1}
    assert properties["dtype"]["enum"] == ["auto", "bfloat16", "float16"]
    assert "TensorRT-LLM's converter" in properties["dtype"]["description"]
    scalars = [{"type": kind} for kind in ("string", "integer", "number", "boolean")]
    assert properties["options"]["additionalProperties"] == {"anyOf": scalars}


def test_everything_that_is_mentioned_is_defined() -> None:
    for path, text in schemas().items():
        document = json.loads(text)
        used = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
        assert used == document.get("$defs", {}).keys(), path
    manifest = json.loads(schemas()[f"{SCHEMAS}/Manifest.json"])
    assert manifest["properties"]["kind"]["enum"] == [kind.value for kind in Kind]
