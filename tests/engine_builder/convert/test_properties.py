"""For any shape and layout: the ranks together are the source, or the layout is refused."""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import UnsupportedRequest
from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.conversion import Conversion, convert_checkpoint, prepare_ranks
from llmjp_builder.convert.execution import execute_plan
from llmjp_builder.convert.header import TensorInfo
from llmjp_builder.convert.layout import resolve_layout
from llmjp_builder.convert.model_config import parse_model_config
from llmjp_builder.convert.planner import plan_conversion
from llmjp_builder.progress import Reporter
from tests.engine_builder.checkpoints import Array, Tiny, read_tensors, tree, write_checkpoint

models = st.builds(
    lambda kv, group, **rest: Tiny(kv_heads=kv, heads=kv * group, **rest),
    kv=st.sampled_from([1, 2, 3, 4]),
    group=st.sampled_from([1, 2, 4]),
    hidden=st.sampled_from([4, 12]),
    inter=st.sampled_from([8, 24]),
    layers=st.integers(1, 5),
    head_size=st.sampled_from([2, 6]),
    vocab=st.integers(1, 17),
    tied=st.booleans(),
    dtype=st.sampled_from(["BF16", "F16", "F32"]),
)


class Wanted(NamedTuple):
    tp: int
    pp: int
    sharding: int | None

    def options(self) -> dict[str, Any]:
        return {
            "tensor_parallel": self.tp,
            "pipeline_parallel": self.pp,
            "embedding_sharding_dim": self.sharding,
        }


layouts = st.builds(
    Wanted,
    st.sampled_from([1, 2, 3, 4, 8]),
    st.integers(1, 4),
    st.sampled_from([None, 0, 1]),
)


def possible(model: Tiny, wanted: Wanted) -> bool:
    tp = wanted.tp
    return (
        model.heads % tp == 0
        and (model.kv_heads % tp == 0 or tp % model.kv_heads == 0)
        and model.inter % tp == 0
        and (wanted.sharding != 1 or model.hidden % tp == 0)
        and wanted.pp <= model.layers
    )


def rejoined(
    ranks: list[dict[str, Array]], model: Tiny, conversion: Conversion
) -> dict[str, Array]:
    """The Hugging Face tensors again, by undoing the division from the ranks' side."""
    tp, pp = conversion.layout.tensor_parallel, conversion.layout.pipeline_parallel
    stages = [ranks[i * tp : (i + 1) * tp] for i in range(pp)]
    q_rows = model.heads // tp * model.head_size
    kv_rows = max(model.kv_heads // tp, 1) * model.head_size
    copies = max(tp // model.kv_heads, 1)
    found: dict[str, Array] = {}

    def join(stage: list[dict[str, Array]], name: str, axis: int) -> Array:
        return np.concatenate([rank[name] for rank in stage], axis=axis)

    done = 0
    for stage in stages:
        num_layers = len({name.split(".")[2] for name in stage[0] if ".layers." in name})
        for local in range(num_layers):
            trt, hf = f"transformer.layers.{local}.", f"model.layers.{done + local}."
            qkv = [
                np.split(rank[f"{trt}attention.qkv.weight"], [q_rows, q_rows + kv_rows])
                for rank in stage
            ]
            for i, letter in enumerate("qkv"):
                parts = [part[i] for part in qkv][:: copies if i else 1]
                found[f"{hf}self_attn.{letter}_proj.weight"] = np.concatenate(parts)
            found[f"{hf}self_attn.o_proj.weight"] = join(stage, f"{trt}attention.dense.weight", 1)
            found[f"{hf}mlp.gate_proj.weight"] = join(stage, f"{trt}mlp.fc.weight", 0)
            found[f"{hf}mlp.up_proj.weight"] = join(stage, f"{trt}mlp.gate.weight", 0)
            found[f"{hf}mlp.down_proj.weight"] = join(stage, f"{trt}mlp.proj.weight", 1)
            for theirs, ours in (("input", "input"), ("post_attention", "post")):
                found[f"{hf}{theirs}_layernorm.weight"] = stage[-1][f"{trt}{ours}_layernorm.weight"]
        done += num_layers
    sharding = conversion.layout.embedding_sharding_dim
    table = "transformer.vocab_embedding.weight"
    found["model.embed_tokens.weight"] = (
        stages[0][0][table] if sharding is None else join(stages[0], table, sharding)
    )[: model.vocab]
    found["model.norm.weight"] = stages[-1][0]["transformer.ln_f.weight"]
    padded = join(stages[-1], "lm_head.weight", 0)
    assert not padded[model.vocab :].any()
    assert len(padded) == -(-model.vocab // tp) * tp
    found["lm_head.weight"] = padded[: model.vocab]
    return found


@settings(max_examples=60, deadline=None)
@given(model=models, wanted=layouts, shards=st.sampled_from([1, 3]))
def test_the_ranks_rejoin_to_the_source(model: Tiny, wanted: Wanted, shards: int) -> None:
    assume(possible(model, wanted))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = model.weights()
        write_checkpoint(folder / "hf", model, weights, shards=shards)
        conversion = prepare_ranks(folder / "hf", LayoutOptions(**wanted.options()))
        (folder / "out").mkdir()
        execute_plan(conversion.plan, folder / "out", lambda _: None)
        paths = [folder / "out" / f"rank{i}.safetensors" for i in range(conversion.layout.world)]
        ranks = [read_tensors(path) for path in paths]
    assert conversion.bytes_per_rank == tuple(sum(a.nbytes for a in r.values()) for r in ranks)
    found = rejoined(ranks, model, conversion)
    if model.tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    assert found.keys() == weights.keys()
    for tensor, expected in weights.items():
        exact = expected.astype(np.float16) if model.dtype == "F32" else expected
        assert found[tensor].tobytes() == exact.tobytes(), tensor


@given(model=models, wanted=layouts)
def test_a_layout_is_refused_exactly_where_it_is_impossible(model: Tiny, wanted: Wanted) -> None:
    config = parse_model_config(model.config(), "config.json")
    if possible(model, wanted):
        assert (
            resolve_layout(config, LayoutOptions(**wanted.options())).world == wanted.tp * wanted.pp
        )
        return
    with pytest.raises(UnsupportedRequest) as caught:
        resolve_layout(config, LayoutOptions(**wanted.options()))
    assert caught.value.exit_code == 6


@given(model=models, wanted=layouts)
def test_a_plan_needs_no_data(model: Tiny, wanted: Wanted) -> None:
    assume(possible(model, wanted))
    config = parse_model_config(model.config(), "config.json")
    divided = resolve_layout(config, LayoutOptions(**wanted.options()))
    tensors = {
        name: TensorInfo(name, "BF16", shape, Path("f"), 0, 2 * math.prod(shape))
        for name, shape in model.shapes().items()
    }
    planned = plan_conversion(tensors, config, divided, Path("hf"))
    assert len(planned.files) == divided.world
    assert {t.source.name for t in planned.transfers} == model.shapes().keys()
    headers = sum(len(file.header) for file in planned.files)
    assert headers + planned.transfer_bytes <= planned.size
    if divided.world == 1:
        source = sum(tensor.size for tensor in tensors.values())
        copied_table = tensors["model.embed_tokens.weight"].size if model.tied else 0
        assert planned.transfer_bytes == source + copied_table


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    model = Tiny(layers=3)
    source = write_checkpoint(tmp_path / "hf", model)
    for out in ("a", "b"):
        conversion = prepare_ranks(source, LayoutOptions(tensor_parallel=4, pipeline_parallel=2))
        convert_checkpoint(conversion, tmp_path / out, Reporter(None))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_large_tensors_are_moved_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pieces of a few rows, in both paths: rows copied by the kernel, columns through buffers.
    monkeypatch.setattr("llmjp_builder.convert.execution._KERNEL_PIECE", 64)
    monkeypatch.setattr("llmjp_builder.convert.execution._BUFFER_PIECE", 64)
    model = Tiny()
    weights = model.weights()
    source = write_checkpoint(tmp_path / "hf", model, weights)
    steps: list[int] = []
    conversion = prepare_ranks(source, LayoutOptions(tensor_parallel=2))
    (tmp_path / "out").mkdir()
    execute_plan(conversion.plan, tmp_path / "out", steps.append)
    assert len(steps) > 2 * sum(len(t.copies) for t in conversion.plan.transfers)
    assert sum(steps) == conversion.plan.transfer_bytes
    ranks = [read_tensors(tmp_path / "out" / f"rank{i}.safetensors") for i in range(2)]
    found = rejoined(ranks, model, conversion)
    assert all(found[name].tobytes() == weights[name].tobytes() for name in weights)


def test_copying_in_the_kernel_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_checkpoint(tmp_path / "hf", Tiny())
    convert_checkpoint(
        prepare_ranks(source, LayoutOptions(tensor_parallel=2)), tmp_path / "a", Reporter(None)
    )

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    convert_checkpoint(
        prepare_ranks(source, LayoutOptions(tensor_parallel=2)), tmp_path / "b", Reporter(None)
    )
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_rope_of_transformers_5_and_scaling_are_kept(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    config = Tiny().config()
    for change, theta, expected in (
        ({"rope_theta": 500000.0, "rope_scaling": scaling}, 500000.0, scaling),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, 1e6, None),
        ({"rope_parameters": {"rope_theta": 1e6, **scaling}}, 1e6, scaling),
    ):
        document = json.loads(json.dumps({**config, **change}))
        parsed = parse_model_config(document, "config.json")
        assert (parsed.rope_theta, parsed.rope_scaling) == (theta, expected)
