"""Building into a store: keys, manifests, cache hits, damage, and the command around it."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmjp_builder.contracts.errors import BadArtefact, MissingFile, SourceChanged
from llmjp_builder.contracts.spec import BuildSpec, Manifest, Progress, Source
from llmjp_builder.pipeline import BuildResult, build
from llmjp_builder.store import hashing
from llmjp_builder.store.hashing import HashCache, hash_files
from llmjp_builder.store.store import Store, check_artefact
from tests.engine_builder.checkpoints import Tiny, add_tokenizer, tree, write_checkpoint
from tests.engine_builder.command_line import CommandLine


def built(source: Path, store: Path, **options: Any) -> BuildResult:
    return build(BuildSpec(source=Source(path=str(source)), **options), store=store)


def test_an_artefact_holds_ranks_tokenizer_and_manifest(source: Path, tmp_path: Path) -> None:
    result = built(source, tmp_path / "store", tensor_parallel=2)
    assert result.path == tmp_path / "store" / "artefacts" / result.key
    assert sorted(tree(result.path)) == [
        "config.json",
        "manifest.json",
        "rank0.safetensors",
        "rank1.safetensors",
        "tokenizer/generation_config.json",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    ]
    manifest = Manifest.load(result.path)
    assert manifest == result.manifest == check_artefact(result.path)
    assert (manifest.kind, manifest.tensor_parallel, manifest.dtype) == ("ranks", 2, "bfloat16")
    assert len(manifest.bytes_per_rank) == 2
    assert str(tmp_path) not in (result.path / "manifest.json").read_text()


def test_the_second_build_is_found(source: Path, tmp_path: Path) -> None:
    first = built(source, tmp_path / "store")
    before = tree(tmp_path / "store" / "artefacts")
    second = built(source, tmp_path / "store")
    assert (first.cache_hit, second.cache_hit) == (False, True)
    assert (second.path, second.manifest) == (first.path, first.manifest)
    assert tree(tmp_path / "store" / "artefacts") == before


def test_store_and_source_may_move(source: Path, tmp_path: Path) -> None:
    first = built(source, tmp_path / "a")
    shutil.copytree(source, tmp_path / "elsewhere")
    other = built(tmp_path / "elsewhere", tmp_path / "b")
    assert other.key == first.key
    assert tree(other.path) == tree(first.path)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {"dtype": "bfloat16"}, True),
        ({}, {"dtype": "float16"}, False),
        ({}, {"embedding_sharding_dim": 0}, True),  # one rank holds the table anyway
        ({}, {"max_batch_size": 8}, True),  # a setting of engines
        ({"tensor_parallel": 2}, {"tensor_parallel": 2, "embedding_sharding_dim": 0}, False),
        ({"tensor_parallel": 2}, {"pipeline_parallel": 2}, False),
    ],
)
def test_equal_keys_mean_equal_bytes(
    one: dict[str, Any], other: dict[str, Any], same: bool, source: Path, tmp_path: Path
) -> None:
    first, second = built(source, tmp_path / "a", **one), built(source, tmp_path / "b", **other)
    assert (first.key == second.key) == same
    assert (tree(first.path) == tree(second.path)) == same


def test_any_used_file_is_in_the_key_and_no_other(source: Path, tmp_path: Path) -> None:
    first = built(source, tmp_path / "store")
    (source / "README.md").write_text("about")
    assert built(source, tmp_path / "store").key == first.key
    (source / "tokenizer_config.json").write_text('{"bos_token": "t2"}')
    assert built(source, tmp_path / "store").key != first.key


def test_the_converters_bytes_are_pinned(tmp_path: Path) -> None:
    # If this fails, the converter writes other bytes: raise CONVERTER_REVISION with it.
    model = Tiny(vocab=5)
    weights = {
        name: np.arange(math.prod(shape), dtype=np.uint16).reshape(shape)
        for name, shape in model.shapes().items()
    }
    source = add_tokenizer(write_checkpoint(tmp_path / "hf", model, weights), num_tokens=5)
    result = built(source, tmp_path / "store", tensor_parallel=2)
    sums = {name: record.sha256[:12] for name, record in result.manifest.files.items()}
    assert result.manifest.inputs.converter_revision == "1"
    assert {name: sums[name] for name in ("config.json", "rank0.safetensors")} == {
        "config.json": "5e0c2b008cb4",
        "rank0.safetensors": "f0c172472d2c",
    }


def damage_byte(path: Path) -> None:
    file = path / "rank0.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def damage_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def damage_missing(path: Path) -> None:
    (path / "tokenizer" / "tokenizer.json").unlink()


def damage_extra(path: Path) -> None:
    (path / "rank7.safetensors").write_bytes(b"x")


def damage_size(path: Path) -> None:
    os.truncate(path / "rank0.safetensors", 10)


@pytest.mark.parametrize(
    "damage", [damage_byte, damage_manifest, damage_missing, damage_extra, damage_size]
)
def test_a_damaged_artefact_is_built_again(damage: Any, source: Path, tmp_path: Path) -> None:
    first = built(source, tmp_path / "store")
    whole = tree(first.path)
    damage(first.path)
    with pytest.raises(BadArtefact):
        check_artefact(first.path)
    again = built(source, tmp_path / "store")
    assert not again.cache_hit
    assert tree(again.path) == whole
    assert list((tmp_path / "store" / "work").iterdir()) == []


def test_without_verification_sizes_are_compared(source: Path, tmp_path: Path) -> None:
    first = built(source, tmp_path / "store")
    damage_byte(first.path)
    spec = BuildSpec(source=Source(path=str(source)))
    assert build(spec, store=tmp_path / "store", verify=False).cache_hit
    damage_size(first.path)
    assert not build(spec, store=tmp_path / "store", verify=False).cache_hit


def test_a_source_that_changes_meanwhile_is_refused(source: Path, tmp_path: Path) -> None:
    def touch(progress: Progress) -> None:
        if progress.step == "convert":
            (source / "config.json").write_text(json.dumps(Tiny().config(), indent=1))

    spec = BuildSpec(source=Source(path=str(source)))
    with pytest.raises(SourceChanged, match="modified during the build"):
        build(spec, store=tmp_path / "store", on_progress=touch)
    assert Store(tmp_path / "store").list_keys() == []
    assert list((tmp_path / "store" / "work").iterdir()) == []


class TestHashCache:
    @pytest.fixture
    def settled(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A file that counts as unchanged for long enough."""
        monkeypatch.setattr(hashing, "_SETTLED_NS", -(10**12))
        (tmp_path / "f").write_bytes(b"one")
        return tmp_path

    def test_an_unchanged_file_is_not_read_again(
        self, settled: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache = HashCache(settled / "cache.json")
        first = hash_files(settled, ["f"], lambda _: None, cache)
        cache.save()
        monkeypatch.setattr(hashing, "compute_sha256", lambda *_: pytest.fail("it was read"))
        assert (
            hash_files(settled, ["f"], lambda _: None, HashCache(settled / "cache.json")) == first
        )

    def test_a_changed_file_is_read_again_even_with_its_old_time(self, settled: Path) -> None:
        cache = HashCache(settled / "cache.json")
        first = hash_files(settled, ["f"], lambda _: None, cache)
        info = (settled / "f").stat()
        (settled / "f").write_bytes(b"two")
        os.utime(settled / "f", ns=(info.st_atime_ns, info.st_mtime_ns))
        assert hash_files(settled, ["f"], lambda _: None, cache) != first

    def test_a_fresh_file_is_not_remembered(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"one")
        cache = HashCache(tmp_path / "cache.json")
        hash_files(tmp_path, ["f"], lambda _: None, cache)
        cache.save()
        assert json.loads((tmp_path / "cache.json").read_text()) == {}

    @pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
    def test_a_broken_cache_is_an_empty_one(self, content: str, settled: Path) -> None:
        (settled / "cache.json").write_text(content)
        cache = HashCache(settled / "cache.json")
        hash_files(settled, ["f"], lambda _: None, cache)
        cache.save()
        assert str(settled / "f") in json.loads((settled / "cache.json").read_text())

    def test_progress_counts_every_byte(self, settled: Path) -> None:
        done: list[int] = []
        hash_files(settled, ["f"], done.append)
        assert sum(done) == 3

    def test_an_absent_file_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFile):
            hash_files(tmp_path, ["nothing"], lambda _: None)


class TestCommand:
    def test_the_last_line_is_the_path(
        self, source: Path, tmp_path: Path, llmjp: CommandLine
    ) -> None:
        store = tmp_path / "store"
        ended = llmjp("build", source, "--store", store, "--tp", "2")
        assert ended.exit_code == 0
        assert Manifest.load(Path(ended.last_line)).tensor_parallel == 2
        lines = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
        steps = list(dict.fromkeys(line["step"] for line in lines))
        assert steps == ["fetch", "convert", "assemble", "publish"]
        newest = json.loads((store / "progress.json").read_text())
        assert (newest["step"], newest["percent"]) == ("publish", 100.0)
        again = llmjp("build", source, "--store", store, "--tp", "2")
        assert (again.last_line, "already there" in again.err) == (ended.last_line, True)
        listed = llmjp("store-ls", "--store", store)
        assert Path(ended.last_line).name in listed.out

    def test_a_spec_file_gives_the_same_artefact(
        self, source: Path, tmp_path: Path, llmjp: CommandLine
    ) -> None:
        spec = {"source": {"path": str(source)}, "tensor_parallel": 2}
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        ended = llmjp("build", "--spec", tmp_path / "spec.json", "--store", tmp_path / "a")
        other = llmjp("build", source, "--tp", "2", "--store", tmp_path / "b")
        assert Path(ended.last_line).name == Path(other.last_line).name

    @pytest.mark.parametrize("arguments", [[], ["--spec", "spec.json", "--tp", "2"]])
    def test_either_a_source_or_a_spec(
        self, arguments: list[str], tmp_path: Path, llmjp: CommandLine
    ) -> None:
        assert llmjp("build", "--store", tmp_path / "s", *arguments).exit_code == 2

    def test_a_wrong_spec_is_a_usage_error(self, tmp_path: Path, llmjp: CommandLine) -> None:
        (tmp_path / "spec.json").write_text('{"source": {"path": "x"}, "tp": 2}')
        ended = llmjp("build", "--spec", tmp_path / "spec.json", "--store", tmp_path / "s")
        assert ended.exit_code == 2
        assert "BuildSpec: unknown field 'tp'" in ended.complaint

    @pytest.mark.parametrize("by", ["option", "environment"])
    def test_a_job_finds_the_reason_of_a_failure(
        self,
        by: str,
        source: Path,
        tmp_path: Path,
        llmjp: CommandLine,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        file = tmp_path / "termination"
        os.truncate(source / "model.safetensors", 100)
        options: list[str | Path] = ["--termination-message", file] if by == "option" else []
        if by == "environment":
            monkeypatch.setenv("LLMJP_TERMINATION_MESSAGE", str(file))
        ended = llmjp("build", source, "--store", tmp_path / "store", *options)
        failure = json.loads(file.read_text())
        assert failure.pop("message") == ended.complaint
        assert failure == {"code": "bad_header", "step": "fetch", "retryable": False}

    def test_a_damaged_artefact_is_listed_as_such(
        self, source: Path, tmp_path: Path, llmjp: CommandLine
    ) -> None:
        damage_manifest(built(source, tmp_path / "store").path)
        listed = llmjp("store-ls", "--store", tmp_path / "store")
        assert "damaged" in listed.out

    def test_casts_and_dropped_tensors_are_reported(
        self, tmp_path: Path, llmjp: CommandLine
    ) -> None:
        model = Tiny(dtype="F32")
        weights = model.weights()
        name = "model.layers.0.self_attn.rotary_emb.inv_freq"
        weights[name] = weights["model.norm.weight"]
        ended = llmjp(
            "convert", write_checkpoint(tmp_path / "hf", model, weights), tmp_path / "out"
        )
        assert ended.exit_code == 0
        assert f"{len(weights) - 1} tensors: F32 to float16" in ended.err
        assert f"left out: {name}" in ended.err
