"""FP8 through the commands and the store: what is built, under which key, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmjp_builder.contracts.spec import Backend, BuildSpec, Kind, Source
from llmjp_builder.pipeline import BuildResult, build
from llmjp_builder.store.store import check_artefact
from tests.engine_builder.checkpoints import (
    NUMPY,
    Tiny,
    add_tokenizer,
    read_tensors,
    tree,
    write_checkpoint,
)
from tests.engine_builder.command_line import CommandLine

MODEL = Tiny(hidden=16, inter=32, heads=2, kv_heads=2, head_size=16, vocab=11)
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TOKENIZER = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
}


def modules() -> list[str]:
    weights = (name.removesuffix(".weight") for name in MODEL.shapes())
    return [name for name in weights if name.endswith(LINEAR)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return add_tokenizer(write_checkpoint(tmp_path / "hf", MODEL, shards=2))


@pytest.fixture
def amax(tmp_path: Path) -> Path:
    return write_amax(tmp_path / "amax.json")


def write_amax(path: Path, **changed: Any) -> Path:
    activations = {name: 1.0 + i / 8 for i, name in enumerate(modules())}
    path.write_text(json.dumps({"activation_amax": activations, **changed}))
    return path


def built(source: Path, amax: Path | None, store: Path, **options: Any) -> BuildResult:
    file = None if amax is None else str(amax)
    settings = {"quantization": "fp8", "activation_amax": file, **options}
    return build(BuildSpec(source=Source(path=str(source)), **settings), store=store)


def test_ranks(source: Path, amax: Path, tmp_path: Path) -> None:
    result = built(source, amax, tmp_path / "store", tensor_parallel=2, kv_cache="fp8")
    manifest = check_artefact(result.path)
    assert manifest.kind is Kind.RANKS
    assert (manifest.inputs.quantization, manifest.inputs.kv_cache) == ("fp8", "fp8")
    assert len(manifest.bytes_per_rank) == 2
    names = {*(f"rank{i}.safetensors" for i in range(2)), "config.json", "manifest.json"}
    assert set(tree(result.path)) == names | {f"tokenizer/{name}" for name in TOKENIZER}
    assert built(source, amax, tmp_path / "store", tensor_parallel=2, kv_cache="fp8").cache_hit


@pytest.mark.parametrize("backend", [Backend.VLLM, Backend.PYTORCH])
@pytest.mark.parametrize("quantization", ["none", "fp8"])
def test_unified(
    source: Path, amax: Path, tmp_path: Path, backend: Backend, quantization: str
) -> None:
    given = amax if quantization == "fp8" else None
    settings = {"quantization": quantization, "tensor_parallel": 2}
    result = built(source, given, tmp_path / "store", backend=backend, **settings)
    manifest = check_artefact(result.path)
    assert (manifest.kind, manifest.tensor_parallel) == (Kind.UNIFIED, 1)
    found = set(tree(result.path))
    extra = {"hf_quant_config.json"} if quantization == "fp8" else set()
    assert found == {
        *(path.name for path in source.iterdir()),
        *(f"tokenizer/{name}" for name in TOKENIZER),
        "manifest.json",
        *extra,
    }
    index = json.loads((result.path / "model.safetensors.index.json").read_text())
    placed, total = index["weight_map"], index["metadata"]["total_size"]
    assert manifest.bytes_per_rank == (total,)
    assert placed.keys() >= MODEL.shapes().keys()
    again = built(source, given, tmp_path / "store", backend=backend, quantization=quantization)
    assert again.cache_hit, "tensor parallel is the server's business"


def test_unified_without_quantisation_keeps_every_tensor(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    result = built(source, None, store, backend=Backend.VLLM, quantization="none")
    for path in source.glob("*.safetensors"):
        ours, theirs = read_tensors(result.path / path.name), read_tensors(path)
        assert ours.keys() == theirs.keys()
        assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)
    config = json.loads((result.path / "config.json").read_text())
    assert config == json.loads((source / "config.json").read_text())


def test_the_key_is_of_what_the_scales_are(source: Path, amax: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"

    def key(file: Path, **options: Any) -> str:
        return built(source, file, store, **options).key

    first = key(amax)
    attention = [f"model.layers.{i}.self_attn" for i in range(MODEL.layers)]
    quiet = {name: {"k": 448.0, "v": 3.0} for name in attention}
    loud = {name: {"k": 449.0, "v": 3.0} for name in attention}
    with_kv = write_amax(tmp_path / "kv.json", kv_amax=loud)
    assert key(with_kv) == first, "no FP8 KV cache, no KV scales"
    assert key(with_kv, kv_cache="fp8") != key(amax, kv_cache="fp8")
    without_effect = write_amax(tmp_path / "quiet.json", kv_amax=quiet)
    assert key(without_effect, kv_cache="fp8") == key(amax, kv_cache="fp8")
    other = json.loads(amax.read_text())
    other["activation_amax"][modules()[3]] *= 2
    changed = tmp_path / "other.json"
    changed.write_text(json.dumps(other))
    assert key(changed) != first
    assert key(amax, pad_intermediate=16) == first, "nothing was padded"
    assert key(amax, pad_intermediate=48) != first


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        ({"activation_amax": None, "calibration": "missing.txt"}, 3, "missing.txt"),
        ({"calibration": "texts.txt"}, 2, "not both"),
        ({"quantization": "none"}, 2, "for quantization fp8 only"),
        ({"quantization": "none", "activation_amax": None, "kv_cache": "fp8"}, 2, "kv cache fp8"),
        ({"backend": "vllm", "pad_intermediate": 16}, 2, "divides the model itself"),
        ({"backend": "vllm", "embedding_sharding_dim": 0}, 2, "divides the model itself"),
        ({"embedding_sharding_dim": 1}, 2, "divide it by vocabulary"),
        ({"tensor_parallel": 2, "pad_intermediate": 3}, 6, "18 per rank"),
        ({"activation_amax": "missing.json"}, 3, "missing.json"),
    ],
)
def test_what_is_refused(
    source: Path,
    amax: Path,
    tmp_path: Path,
    llmjp: CommandLine,
    options: dict[str, Any],
    exit_code: int,
    message: str,
) -> None:
    settings = {"quantization": "fp8", "activation_amax": str(amax), **options}
    document = {"source": {"path": str(source)}, **settings}
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
    ended = llmjp("build", "--spec", spec, "--store", tmp_path / "store")
    assert ended.exit_code == exit_code
    assert message in ended.complaint
    assert not list((tmp_path / "store").glob("artefacts/*"))


def test_the_commands(source: Path, amax: Path, tmp_path: Path, llmjp: CommandLine) -> None:
    fp8 = ("--quantization", "fp8", "--activation-amax", amax, "--kv-cache", "fp8")
    ended = llmjp("convert", source, tmp_path / "ranks", "--tp", "2", *fp8)
    assert ended.exit_code == 0, ended.err
    ended = llmjp("build", source, "--store", tmp_path / "store", "--tp", "2", *fp8)
    assert ended.exit_code == 0, ended.err
    found = {name: data for name, data in tree(Path(ended.last_line)).items() if "/" not in name}
    del found["manifest.json"]
    assert found == tree(tmp_path / "ranks")
    arguments = ("--activation-amax", amax, "--format", "unified", "--kv-cache", "fp8")
    ended = llmjp("quantize", source, tmp_path / "unified", *arguments)
    assert (ended.exit_code, ended.last_line) == (0, str(tmp_path / "unified"))
    backend = ("--backend", "vllm", *fp8)
    ended = llmjp("build", source, "--store", tmp_path / "store", *backend)
    assert ended.exit_code == 0, ended.err
    found = {name: data for name, data in tree(Path(ended.last_line)).items() if "/" not in name}
    del found["manifest.json"]
    assert found == tree(tmp_path / "unified")
    assert "fp8" in llmjp("store-ls", "--store", tmp_path / "store").out


@pytest.mark.parametrize(
    ("name", "bits", "message"),
    [
        ("model.layers.1.mlp.up_proj.weight", 0x7FC0, "holds infinity or NaN"),
        ("model.layers.0.self_attn.o_proj.weight", 0xFF80, "holds infinity or NaN"),
    ],
)
def test_weights_that_fp8_cannot_hold(
    tmp_path: Path, amax: Path, llmjp: CommandLine, name: str, bits: int, message: str
) -> None:
    weights = MODEL.weights()
    weights[name].reshape(-1)[5] = NUMPY["BF16"](bits)
    source = write_checkpoint(tmp_path / "bad", MODEL, weights)
    fp8 = ("--quantization", "fp8", "--activation-amax", amax)
    ended = llmjp("convert", source, tmp_path / "out", *fp8)
    assert ended.exit_code == 3
    assert message in ended.complaint
    assert name in ended.complaint
    assert not (tmp_path / "out").exists()


def test_weights_that_are_all_zero(tmp_path: Path, amax: Path, llmjp: CommandLine) -> None:
    weights = MODEL.weights()
    weights["model.layers.0.mlp.gate_proj.weight"][:] = 0
    weights["model.layers.0.mlp.down_proj.weight"][:] = 0
    source = write_checkpoint(tmp_path / "bad", MODEL, weights)
    ended = llmjp("quantize", source, tmp_path / "out", "--activation-amax", amax)
    assert "gate_proj.weight: holds nothing but zeros" in ended.complaint
    fp8 = ("--quantization", "fp8", "--activation-amax", amax)
    ended = llmjp("convert", source, tmp_path / "out", *fp8)
    assert "down_proj.weight: holds nothing but zeros" in ended.complaint, "gate shares up's scale"
