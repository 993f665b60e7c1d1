"""Bad input: the exit code, one clear line, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine_builder.checkpoints import (
    Array,
    Tiny,
    add_tokenizer,
    encode_safetensors,
    tree,
    with_header,
    write_checkpoint,
)
from tests.engine_builder.command_line import CommandLine

Spoil = Callable[[Path], None]
Q0 = "model.layers.0.self_attn.q_proj.weight"


def weights_with(change: dict[str, tuple[str, Array] | None]) -> Spoil:
    """The file again, with tensors replaced, added or (None) left out."""

    def spoil(folder: Path) -> None:
        tensors = {name: ("BF16", array) for name, array in Tiny().weights().items()}
        for name, tensor in change.items():
            if tensor is None:
                del tensors[name]
            else:
                tensors[name] = tensor
        (folder / "model.safetensors").write_bytes(encode_safetensors(tensors))

    return spoil


def config_with(**change: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        document = {**Tiny().config(), **change}
        document = {key: value for key, value in document.items() if value is not ...}
        (folder / "config.json").write_text(json.dumps(document))

    return spoil


def text(name: str, content: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).write_text(content)

    return spoil


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size - 100)


def lying_offsets(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header[Q0]["data_offsets"][1] += 1 << 50
    path.write_bytes(with_header(header, data[8 + length :]))


def resharded(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    write_checkpoint(folder, Tiny(), shards=3)


def absent_shard(folder: Path) -> None:
    resharded(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()


def index_with(change: Callable[[dict[str, str]], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        resharded(folder)
        path = folder / "model.safetensors.index.json"
        document = json.loads(path.read_text())
        change(document["weight_map"])
        path.write_text(json.dumps(document))

    return spoil


def index_without_map(folder: Path) -> None:
    resharded(folder)
    (folder / "model.safetensors.index.json").write_text("{}")


def removed(*names: str) -> Spoil:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def both(folder: Path) -> None:
    write_checkpoint(folder, Tiny(), shards=2)


ZEROS = np.zeros((16, 12), np.uint16)

BAD: dict[str, tuple[Spoil, int, str]] = {
    "missing tensor": (
        weights_with({Q0: None}),
        3,
        f"tensor {Q0} is missing; config.json requires it",
    ),
    "missing tensors": (
        weights_with({Q0: None, "lm_head.weight": None}),
        3,
        "and 1 more tensor(s) are missing",
    ),
    "extra tensor": (
        weights_with({"model.layers.2.mlp.up_proj.weight": ("BF16", ZEROS)}),
        3,
        "model.safetensors: tensor model.layers.2.mlp.up_proj.weight is unknown",
    ),
    "a bias": (
        weights_with({"model.layers.0.self_attn.q_proj.bias": ("BF16", ZEROS[0])}),
        3,
        "q_proj.bias is unknown",
    ),
    "wrong shape": (
        weights_with({Q0: ("BF16", ZEROS.T)}),
        3,
        f"model.safetensors: {Q0}: shape [12, 16]; config.json implies [16, 12]",
    ),
    "wrong rank": (
        weights_with({"model.norm.weight": ("BF16", np.zeros((12, 1), np.uint16))}),
        3,
        "model.norm.weight: shape [12, 1]; config.json implies [12]",
    ),
    "wrong dtype": (
        weights_with({Q0: ("I16", ZEROS)}),
        3,
        f"model.safetensors: {Q0}: dtype I16; expected one of BF16, F16, F32",
    ),
    "too large for float16": (
        weights_with({Q0: ("BF16", ZEROS | 0x7F00)}),
        3,
        f"model.safetensors: {Q0}: the value",
    ),
    "tied but different": (config_with(tie_word_embeddings=True), 3, "lm_head.weight differs from"),
    "truncated": (truncated, 3, "the file is truncated"),
    "truncated to nothing": (
        lambda folder: os.truncate(folder / "model.safetensors", 0),
        3,
        "0 bytes are too few",
    ),
    "lying offsets": (lying_offsets, 3, f"{Q0}: data_offsets span"),
    "absent shard": (
        absent_shard,
        3,
        "names 1 file(s) that are not there, first model-00002-of-00003.safetensors",
    ),
    "shard outside": (
        index_with(lambda placed: placed.update({Q0: "../evil.safetensors"})),
        3,
        "expected the name of a file in this folder",
    ),
    "index and shard disagree": (
        index_with(lambda placed: placed.pop(Q0)),
        3,
        f"holds {Q0}, which model.safetensors.index.json does not name",
    ),
    "index names a tensor nobody has": (
        index_with(lambda placed: placed.update(ghost="model-00001-of-00003.safetensors")),
        3,
        "puts ghost here, but it is not",
    ),
    "index without a map": (
        index_without_map,
        3,
        "weight_map",
    ),
    "single file and index": (both, 3, "has both model.safetensors and"),
    "not a Llama": (
        config_with(architectures=["Qwen3MoeForCausalLM"]),
        6,
        "supported: LlamaForCausalLM",
    ),
    "no architecture": (config_with(architectures=..., model_type=...), 6, "architectures is None"),
    "attention bias": (config_with(attention_bias=True), 6, "attention_bias is True"),
    "mlp bias": (config_with(mlp_bias=True), 6, "mlp_bias is True"),
    "another activation": (config_with(hidden_act="gelu"), 6, "hidden_act is 'gelu'"),
    "quantised already": (config_with(quantization_config={}), 6, "quantization_config is set"),
    "another dtype": (config_with(torch_dtype="float64"), 6, "dtype is 'float64'"),
    "pickled weights": (pickled, 6, "only safetensors are read"),
    "no weights": (removed("model.safetensors"), 3, "no weights to convert"),
    "no config": (removed("config.json"), 3, "config.json: No such file"),
    "config is no JSON": (text("config.json", "{"), 3, "config.json: not valid JSON"),
    "config is a list": (text("config.json", "[]"), 3, "config.json: expected a JSON object"),
    "config with NaN": (text("config.json", '{"a": NaN}'), 3, "NaN is not a finite number"),
    "a size missing": (config_with(hidden_size=...), 3, "hidden_size is missing"),
    "a size of zero": (config_with(num_attention_heads=0), 3, "must be an integer from 1"),
    "an absurd size": (config_with(num_hidden_layers=10**12), 3, "from 1 to 4096, found"),
    "a size as text": (config_with(vocab_size="11"), 3, "vocab_size must be an integer"),
    "heads that do not group": (config_with(num_key_value_heads=3), 3, "is not a multiple of"),
    "a broken epsilon": (config_with(rms_norm_eps=-1), 3, "rms_norm_eps must be a positive"),
    "a broken theta": (config_with(rope_theta="x"), 3, "rope_theta must be a positive"),
    "broken rope": (config_with(rope_scaling=3), 3, "rope_scaling must be an object"),
    "a broken flag": (config_with(tie_word_embeddings=1), 3, "must be true or false"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("command", ["convert", "build"])
def test_bad_checkpoints(
    case: str, command: str, source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    spoil, exit_code, message = BAD[case]
    spoil(source)
    before = tree(tmp_path)
    out = tmp_path / "out"
    place = [out] if command == "convert" else ["--store", out]
    dtype = ["--dtype", "float16"] if case == "too large for float16" else []
    ended = llmjp(command, source, *place, "--tp", "2", *dtype)
    assert (ended.exit_code, ended.out) == (exit_code, "")
    assert message in ended.complaint
    left = {path: data for path, data in tree(tmp_path).items() if path not in before}
    allowed = {"out/progress.json", "out/cache/hashes.json"}
    assert {path for path in left if not path.startswith("out/locks/")} <= allowed
    if command == "convert":
        assert sorted(p.name for p in tmp_path.iterdir()) == ["hf"]


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        (["--tp", "3"], 6, "tensor parallel 3: it does not divide 4 attention heads"),
        (["--tp", "3"], 6, "possible here: 1, 2, 4"),
        (["--tp", "1000"], 6, "at most 256 are supported"),
        (["--tp", "32", "--pp", "32"], 6, "= 1024 ranks"),
        (["--pp", "3"], 6, "the model has only 2 layers"),
    ],
)
def test_impossible_layouts(
    options: list[str],
    exit_code: int,
    message: str,
    source: Path,
    tmp_path: Path,
    llmjp: CommandLine,
) -> None:
    ended = llmjp("convert", source, tmp_path / "out", *options)
    assert ended.exit_code == exit_code
    assert message in ended.complaint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hf"]


@pytest.mark.parametrize(
    "options", [["--tp", "0"], ["--pp", "x"], ["--embedding-sharding-dim", "2"], ["--dtype", "f8"]]
)
def test_usage(options: list[str], source: Path, tmp_path: Path, llmjp: CommandLine) -> None:
    assert llmjp("convert", source, tmp_path / "out", *options).exit_code == 2


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_an_existing_output_is_left_alone(
    kind: str, source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
        (out / "precious").write_text("x")
    elif kind == "file":
        out.write_text("x")
    else:
        out.symlink_to("nowhere")
    before = tree(tmp_path)
    ended = llmjp("convert", source, out)
    assert ended.exit_code == 3
    assert "exists already" in ended.complaint
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("tokenizer.json", "no tokenizer.json: an artefact needs the tokenizer"),
        ("tokenizer_config.json", "no tokenizer_config.json"),
    ],
)
def test_an_artefact_needs_a_tokenizer_a_conversion_does_not(
    missing: str, message: str, source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    (source / missing).unlink()
    ended = llmjp("build", source, "--store", tmp_path / "store")
    assert ended.exit_code == 3
    assert message in ended.complaint
    assert llmjp("convert", source, tmp_path / "out").exit_code == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "tokenizer.json: not valid JSON"),
        ("{}", "it has no vocabulary"),
        ('{"model": {"vocab": {"a": 11}}}', "token id 11 is beyond the model's vocabulary of 11"),
        ('{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 99}]}', "id and content"),
    ],
)
def test_a_tokenizer_of_another_model(
    content: str, message: str, source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    (source / "tokenizer.json").write_text(content)
    ended = llmjp("build", source, "--store", tmp_path / "store")
    assert ended.exit_code == 3
    assert message in ended.complaint


def test_a_source_that_is_not_there(tmp_path: Path, llmjp: CommandLine) -> None:
    ended = llmjp("convert", tmp_path / "nothing", tmp_path / "out")
    assert ended.exit_code == 3
    assert "no such folder; expected a Hugging Face checkpoint" in ended.complaint


def test_control_characters_in_names_do_not_break_the_line(
    source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    weights_with({"evil\n\x1b[31mname": ("BF16", ZEROS)})(source)
    ended = llmjp("convert", source, tmp_path / "out")
    assert ended.exit_code == 3
    assert "evil\\n\\x1b[31mname" in ended.complaint


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB: less than the result of the `large` checkpoint."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = shutil.which("mount") and os.geteuid() == 0
    if not mounted or subprocess.call(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], stderr=subprocess.DEVNULL
    ):
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.check_call(["umount", str(folder)])


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return add_tokenizer(write_checkpoint(tmp_path / "large", Tiny(vocab=4000)))


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("command", ["convert", "build"])
def test_a_full_disk(
    command: str,
    announced: bool,
    small_disk: Path,
    large: Path,
    llmjp: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not announced:  # somebody else fills the disk after the check
        monkeypatch.setattr("llmjp_builder.convert.conversion.require_free_space", lambda *_: None)
    out = small_disk / "out"
    place = [out] if command == "convert" else ["--store", out]
    ended = llmjp(command, large, *place, "--tp", "2")
    assert ended.exit_code == 4
    assert "the disk is full" in ended.complaint
    assert "bytes are needed" in ended.complaint
    assert "bytes are free" in ended.complaint
    kept = [path for path in tree(small_disk) if path.endswith((".safetensors", "manifest.json"))]
    assert kept == []
    if command == "convert":
        assert list(small_disk.iterdir()) == []


def test_a_folder_that_may_not_be_read(source: Path, tmp_path: Path, llmjp: CommandLine) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    source.chmod(0)
    try:
        ended = llmjp("convert", source, tmp_path / "out")
    finally:
        source.chmod(0o700)
    assert ended.exit_code == 5
