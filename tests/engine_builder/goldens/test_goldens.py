"""Goldens of our own making: the byte-exact proof that needs nothing but this repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.conversion import convert_checkpoint, prepare_ranks
from llmjp_builder.progress import Reporter
from llmjp_builder.quantize.activations import read_given_amax
from tests.engine_builder.checkpoints import tree
from tests.engine_builder.goldens.cases import CASES, FOLDER
from tests.engine_builder.goldens.upstream import NESTED, list_differences
from tests.engine_builder.goldens.write import convert_by_reference, describe_files


def golden_config(case: str) -> bytes:
    return (FOLDER / f"{case}.config.json").read_bytes()


def golden_ranks(case: str) -> dict[str, Any]:
    ranks: dict[str, Any] = json.loads((FOLDER / f"{case}.ranks.json").read_bytes())
    return ranks


@pytest.mark.parametrize("name", CASES)
def test_the_converter_writes_the_golden(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    conversion = prepare_ranks(
        case.write_source(tmp_path / "hf"), LayoutOptions(**case.prepare_options())
    )
    file = tmp_path / "amax.json"
    file.write_text(json.dumps(case.amax()))
    amax = read_given_amax(conversion, file=file if case.fp8 else None, texts=None)
    convert_checkpoint(conversion, tmp_path / "out", Reporter(None), amax)
    files = tree(tmp_path / "out")
    assert files["config.json"] == golden_config(name)
    # Tensors first: they say which one is wrong.
    assert describe_files(files) == golden_ranks(name)


@pytest.mark.parametrize("name", CASES)
def test_the_golden_is_what_the_reference_writes(name: str, tmp_path: Path) -> None:
    files = convert_by_reference(CASES[name], tmp_path / "hf")
    assert files["config.json"] == golden_config(name)
    assert describe_files(files) == golden_ranks(name)


def test_there_is_a_golden_for_every_case_and_no_other() -> None:
    expected = {f"{name}.{kind}.json" for name in CASES for kind in ("config", "ranks")}
    assert {path.name for path in FOLDER.iterdir()} == expected


@pytest.mark.parametrize("name", CASES)
def test_no_key_of_config_json_can_be_forgotten(name: str) -> None:
    # The comparison with upstream's documents (test_convert_golden.py) must notice any.
    theirs = json.loads(golden_config(name))
    assert not list_differences(theirs, theirs)
    for section in (None, *NESTED):
        for key in theirs if section is None else theirs[section]:
            if key in NESTED:
                continue
            ours = json.loads(golden_config(name))
            del (ours if section is None else ours[section])[key]
            dotted = key if section is None else f"{section}.{key}"
            assert [sentence.split(":")[0] for sentence in list_differences(ours, theirs)] == [
                dotted
            ]


def test_no_key_of_config_json_can_be_invented_or_wrong() -> None:
    theirs = json.loads(golden_config("fp8_tp2"))
    assert list_differences({**theirs, "rope_base": 1.0}, theirs) == [
        "rope_base: upstream has no such key"
    ]
    changed = {**theirs, "mapping": {**theirs["mapping"], "tp_size": 4}}
    assert list_differences(changed, theirs) == ["mapping.tp_size: ours 4, upstream's 2"]


def test_an_omission_holds_for_upstreams_default_only() -> None:
    ours = json.loads(golden_config("bf16_tp2"))
    assert not list_differences(ours, {**ours, "attn_bias": False})
    (sentence,) = list_differences(ours, {**ours, "attn_bias": True})
    assert sentence.startswith("attn_bias: missing (default of LLaMAConfig: a Llama without")
