"""The JSON contracts: strict, canonical, and equal in both directions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import BadArtefact, InvalidSpec
from llmjp_builder.contracts.spec import (
    Backend,
    BuildSpec,
    EngineInputs,
    Failure,
    FileRecord,
    KeyInputs,
    Kind,
    Manifest,
    Progress,
    Source,
    Step,
    to_canonical_json,
)

INPUTS = KeyInputs(
    kind=Kind.RANKS,
    source_sha256={"config.json": "aa", "model.safetensors": "bb"},
    dtype="bfloat16",
    converter_revision="1",
    tensor_parallel=2,
)
MANIFEST = Manifest(
    kind=Kind.RANKS,
    key=INPUTS.key,
    inputs=INPUTS,
    files={"config.json": FileRecord(size=3, sha256="cc")},
    bytes_per_rank=(10, 10),
    versions={"converter": "1"},
)


@pytest.mark.parametrize(
    "value",
    [
        BuildSpec(source=Source(path="/models/x")),
        BuildSpec(
            source=Source(repository="llm-jp/llm-jp-3-13b", revision="main"),
            backend=Backend.TENSORRT,
            quantization="fp8",
            kv_cache="fp8",
            tensor_parallel=4,
            embedding_sharding_dim=0,
            options={"max_num_tokens": 8192, "gemm_plugin": "auto", "paged": True},
        ),
        MANIFEST,
        Progress(step=Step.CONVERT, percent=41.5, bytes_done=3, bytes_total=9, eta_seconds=2.0),
        Failure(code="bad_input", step=Step.FETCH, message="x", retryable=False),
        replace(
            INPUTS,
            kind=Kind.ENGINE,
            engine=EngineInputs(
                options={"max_seq_len": 4096},
                gpu_product="H100",
                compute_capability="9.0",
                tensorrt_llm="1.2.1",
                tensorrt="10.14.1.48",
            ),
        ),
    ],
)
def test_json_gives_the_value_back(
    value: BuildSpec | Manifest | Progress | Failure | KeyInputs,
) -> None:
    text = to_canonical_json(value.to_json())
    assert type(value).from_json(json.loads(text)) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tp": 2}, "BuildSpec: unknown field 'tp'"),
        ({"tensor_parallel": "2"}, 'BuildSpec.tensor_parallel: expected int, found "2"'),
        ({"tensor_parallel": True}, "BuildSpec.tensor_parallel: expected int, found true"),
        ({"tensor_parallel": 2.0}, "BuildSpec.tensor_parallel: expected int, found 2.0"),
        ({"tensor_parallel": 0}, "tensor_parallel: must be at least 1, not 0"),
        ({"pipeline_parallel": -1}, "pipeline_parallel: must be at least 1"),
        ({"pad_intermediate": -1}, "pad_intermediate: must be at least 0"),
        ({"embedding_sharding_dim": 2}, "embedding_sharding_dim: must be 0 or 1"),
        ({"dtype": "float8"}, "BuildSpec.dtype: expected one of auto, bfloat16, float16"),
        ({"backend": "onnx"}, "BuildSpec.backend: expected one of torch, tensorrt"),
        ({"source": {}}, "source: give either path or repository"),
        ({"source": {"path": "a", "repository": "b"}}, "source: give either path or repository"),
        ({"source": {"path": "a", "revision": "b"}}, "source.revision: only a repository"),
        ({"source": "a"}, 'BuildSpec.source: expected object, found "a"'),
        ({"options": {"a": []}}, "BuildSpec.options.a: expected one of str, int, float, bool"),
        ({"options": [1]}, "BuildSpec.options: expected object"),
    ],
)
def test_a_field_that_does_not_fit_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        BuildSpec.from_json({"source": {"path": "x"}, **change})
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidSpec, match="BuildSpec: missing field 'source'"):
        BuildSpec.from_json({})


def test_the_key_is_pinned() -> None:
    # Keys name artefacts on people's disks: this value changes on purpose only.
    assert INPUTS.key == "457a318a7b35248212fa"


def test_an_absent_and_a_default_null_field_give_one_key() -> None:
    assert "engine" not in INPUTS.to_json()
    assert KeyInputs.from_json({**INPUTS.to_json(), "engine": None}).key == INPUTS.key


@pytest.mark.parametrize(
    "other",
    [
        replace(INPUTS, dtype="float16"),
        replace(INPUTS, tensor_parallel=1),
        replace(INPUTS, pipeline_parallel=2),
        replace(INPUTS, embedding_sharding_dim=0),
        replace(INPUTS, embedding_sharding_dim=1),
        replace(INPUTS, pad_intermediate=16),
        replace(INPUTS, converter_revision="2"),
        replace(INPUTS, quantization="fp8"),
        replace(INPUTS, source_sha256={"config.json": "aa", "model.safetensors": "bc"}),
        replace(INPUTS, source_sha256={"config.json": "aa"}),
    ],
)
def test_whatever_changes_the_bytes_changes_the_key(other: KeyInputs) -> None:
    assert other.key != INPUTS.key


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values, st.sampled_from([BuildSpec, Manifest, Progress, Failure]))
def test_no_json_value_breaks_the_parser(value: object, contract: type[BuildSpec]) -> None:
    with pytest.raises(InvalidSpec):
        contract.from_json(value)


def test_a_manifest_is_loaded_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST.to_json()))
    loaded = Manifest.load(tmp_path)
    assert loaded == MANIFEST
    assert (loaded.tensor_parallel, loaded.pipeline_parallel, loaded.dtype) == (2, 1, "bfloat16")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no manifest.json, so this is not a complete artefact"),
        ("", "Expecting value"),
        ("[]", "expected object"),
        ("[" * 100_000, "recursion"),
        (json.dumps({**MANIFEST.to_json(), "schema": 2}), "only 1 is known, found 2"),
        (json.dumps({**MANIFEST.to_json(), "key": "0" * 20}), "does not follow from inputs"),
        (json.dumps({**MANIFEST.to_json(), "kind": "engine"}), "does not follow from inputs"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BadArtefact, match=message) as caught:
        Manifest.load(tmp_path)
    assert caught.value.exit_code == 3


def test_a_failure_says_what_the_error_says() -> None:
    failure = Failure.from_error(BadArtefact("broken\nhere"), Step.PUBLISH)
    assert failure == Failure(
        code="bad_artefact", step=Step.PUBLISH, message="broken\\nhere", retryable=False
    )
    bug = Failure.from_error(KeyError("x"), Step.CONVERT)
    assert (bug.code, bug.message) == ("internal", "KeyError: 'x'")
