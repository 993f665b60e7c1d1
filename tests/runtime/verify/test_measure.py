"""Sound checkpoints pass; exchanged shards, exchanged layers, wrong scales fail, by their name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from llmjp_runtime.errors import ArtefactInvalid, NotEnoughMemory, OptionInvalid
from llmjp_runtime.executor.torch import memory as torch_memory
from llmjp_runtime.executor.torch.config import read_config
from llmjp_runtime.executor.torch.loader import load_model
from llmjp_runtime.verify.errors import DifferentModel, PromptsInvalid
from llmjp_runtime.verify.limits import LIMITS, Precision
from llmjp_runtime.verify.report import Measurement
from llmjp_runtime.verify.run import measure
from tests.runtime.executor.torch.fp8_reference import fp8_checkpoint, input_amax
from tests.runtime.executor.torch.running import new_scheduler, replies, request
from tests.support.shared import shared

from .models import (
    Pair,
    Tensors,
    random_folder,
    random_pair,
    random_prompts,
    spoilt,
    tiny_pair,
)

pytestmark = pytest.mark.slow

LAYER = "transformer.layers.1."
Change = Callable[[list[Tensors]], object]


@pytest.fixture(scope="module", params=["tiny", "random"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp(request.param)
    return tiny_pair(folder) if request.param == "tiny" else random_pair(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return random_pair(tmp_path_factory.mktemp("small"))


def measured(pair: Pair, checkpoint: Path, max_tokens: int = 1) -> Measurement:
    return measure(checkpoint, pair.reference, pair.prompts, max_tokens=max_tokens, device="cpu")


def failures(found: Measurement) -> list[str]:
    return list(found.failures(LIMITS[found.precision]))


def goldens() -> list[str]:
    return [
        "bf16_tp1",
        "bf16_tp4_kvdup",
        "bf16_tp2pp2",
        "bf16_pp2_oddlayers",
        "bf16_tp2_tied",
        "bf16_tp2_parallel_emb1",
        "bf16_from_fp32_tp2",
        "fp16_from_fp32_auto_tp2",
        "fp8_tp1",
        "fp8_tp2",
        "fp8_tp2_nokv",
        "fp8_tp2pp2",
        "fp8_tp4_kvdup",
    ]


@pytest.mark.parametrize("name", goldens())
def test_what_tensorrt_llm_and_modelopt_wrote_passes(name: str) -> None:
    folder = shared("trtllm-golden") / name
    asked = random_prompts(5, 101, longest=60)
    found = measure(folder / "ckpt", folder / "hf", asked, max_tokens=4, device="cpu")
    assert failures(found) == []
    rounded = Precision.ROUNDED if "from_fp32" in name else Precision.SAME
    assert found.precision == (Precision.FP8 if "fp8" in name else rounded)
    if found.precision is Precision.SAME:
        assert found.max_error < 1e-5
        assert found.first_difference is None


def test_sound_checkpoints_pass(pair: Pair) -> None:
    exact, narrow = measured(pair, pair.plain), measured(pair, pair.fp8)
    assert (failures(exact), failures(narrow)) == ([], [])
    assert exact.precision is Precision.SAME
    assert narrow.precision is Precision.FP8
    assert not exact.ranges
    # qkv, dense, fc with gate, proj and the KV cache of each layer
    assert len(narrow.ranges) == 5 * (len(narrow.parts) - 2) // 2
    assert 0.01 < narrow.worst_part.error < 0.12
    assert exact.mean_kl < 1e-6 < narrow.mean_kl


def test_padded_widths_pass(tmp_path: Path) -> None:
    source = random_folder(tmp_path / "hf", intermediate_size=88)
    asked = random_prompts(3, 211)
    amax = input_amax(LlamaForCausalLM.from_pretrained(source, dtype=torch.float32).eval(), asked)
    padded = fp8_checkpoint(
        source, tmp_path / "fp8", amax, tensor_parallel=4, pipeline_parallel=2, pad_intermediate=16
    )
    assert read_config(padded / "config.json").intermediate_size == 128
    assert failures(measure(padded, source, asked, max_tokens=2, device="cpu")) == []


def exchange(name: str) -> Change:
    """The tensor of one rank for the other's."""

    def change(ranks: list[Tensors]) -> None:
        ranks[0][name], ranks[1][name] = ranks[1][name], ranks[0][name]

    return change


def fc_for_gate(ranks: list[Tensors]) -> None:
    fc, gate = f"{LAYER}mlp.fc.weight", f"{LAYER}mlp.gate.weight"
    for tensors in ranks:
        tensors[fc], tensors[gate] = tensors[gate], tensors[fc]


@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize(
    ("change", "part"),
    [
        (exchange(f"{LAYER}attention.qkv.weight"), "layer 1 attention"),
        (exchange(f"{LAYER}attention.dense.weight"), "layer 1 attention"),
        (exchange(f"{LAYER}mlp.fc.weight"), "layer 1 mlp"),
        (exchange(f"{LAYER}mlp.gate.weight"), "layer 1 mlp"),
        (exchange(f"{LAYER}mlp.proj.weight"), "layer 1 mlp"),
        (exchange("lm_head.weight"), "lm_head"),
        (fc_for_gate, "layer 1 mlp"),
    ],
)
def test_exchanged_tensors_fail(
    pair: Pair, tmp_path: Path, change: Change, part: str, fp8: bool
) -> None:
    bad = spoilt(pair.fp8 if fp8 else pair.plain, tmp_path / "bad", change)
    found = measured(pair, bad)
    assert failures(found)[0].startswith(f"{part}: error ")
    assert found.worst_part.name == part
    assert found.worst_part.error > 0.3


def test_an_exchanged_embedding_fails(pair: Pair, tmp_path: Path) -> None:
    """FP8 divides the table over the ranks."""
    bad = spoilt(pair.fp8, tmp_path / "bad", exchange("transformer.vocab_embedding.weight"))
    found = measured(pair, bad)
    assert failures(found)[0].startswith("embedding: error ")


def scaled(factor: float, *names: str) -> Change:
    """All ranks' scales of some linear layers of one layer; one rank's alone would not load."""

    def change(ranks: list[Tensors]) -> None:
        for tensors in ranks:
            for name in names:
                tensors[f"{LAYER}{name}_scaling_factor"] *= factor

    return change


@pytest.mark.parametrize("factor", [0.9, 1.1, 448.0])
@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["attention.qkv.weights"], "layer 1 attention"),
        (["attention.dense.weights"], "layer 1 attention"),
        (["mlp.fc.weights", "mlp.gate.weights"], "layer 1 mlp"),
        (["mlp.proj.weights"], "layer 1 mlp"),
    ],
)
def test_a_wrong_weight_scale_fails(
    pair: Pair, tmp_path: Path, factor: float, names: list[str], part: str
) -> None:
    found = measured(pair, spoilt(pair.fp8, tmp_path / "bad", scaled(factor, *names)))
    assert failures(found)[0].startswith(f"{part}: error ")


@pytest.mark.parametrize("factor", [0.1, 100.0])
@pytest.mark.parametrize(
    ("names", "of"),
    [
        (["attention.qkv.activation"], "attention.qkv"),
        (["attention.dense.activation"], "attention.dense"),
        (["mlp.fc.activation", "mlp.gate.activation"], "mlp.fc"),
        (["mlp.proj.activation"], "mlp.proj"),
    ],
)
def test_a_wrong_activation_scale_fails(
    pair: Pair, tmp_path: Path, factor: float, names: list[str], of: str
) -> None:
    found = measured(pair, spoilt(pair.fp8, tmp_path / "bad", scaled(factor, *names)))
    (said,) = [failure for failure in failures(found) if "largest input" in failure]
    assert said.startswith(f"layer 1 {of}: the largest input fills ")


@pytest.mark.parametrize("factor", [1e-4, 100.0])
def test_a_wrong_kv_scale_fails(pair: Pair, tmp_path: Path, factor: float) -> None:
    names = [f"attention.{letters}_cache" for letters in ("k", "v", "kv")]
    found = measured(pair, spoilt(pair.fp8, tmp_path / "bad", scaled(factor, *names)))
    assert any(failure.startswith("layer 1 kv_cache: ") for failure in failures(found))


def test_one_rank_with_another_scale_does_not_load(small: Pair, tmp_path: Path) -> None:
    name = f"{LAYER}mlp.proj.weights_scaling_factor"
    bad = spoilt(small.fp8, tmp_path / "bad", lambda ranks: ranks[1][name].mul_(2))
    with pytest.raises(ArtefactInvalid, match="all ranks of a stage must have the same"):
        measured(small, bad)


def test_a_wrong_norm_and_nan_fail(small: Pair, tmp_path: Path) -> None:
    def norm(ranks: list[Tensors]) -> None:
        for tensors in ranks:
            tensors[f"{LAYER}post_layernorm.weight"].mul_(1.02)

    found = measured(small, spoilt(small.plain, tmp_path / "norm", norm))
    assert failures(found)[0].startswith("layer 1 mlp")

    def nan(ranks: list[Tensors]) -> None:
        ranks[0][f"{LAYER}mlp.proj.weight"][0, 0] = torch.nan

    found = measured(small, spoilt(small.plain, tmp_path / "nan", nan))
    assert [failure.split(":")[0].split(" nan")[0] for failure in failures(found)] == [
        "layer 1 mlp",
        "mean KL",
        "mean logit error / spread",
        "|ln(perplexity ratio)|",
    ]


@pytest.mark.parametrize("fp8", [False, True])
def test_it_is_the_executor_that_is_measured(small: Pair, tmp_path: Path, fp8: bool) -> None:
    """Layer by layer gives what the whole model gives, and its greedy replies differ as it says."""
    sound = small.fp8 if fp8 else small.plain
    bad = spoilt(sound, tmp_path / "bad", exchange(f"{LAYER}mlp.proj.weight"))
    found = measured(small, bad, max_tokens=5)
    ours, theirs = (load_model(f, device="cpu") for f in (bad, small.plain))
    asked = [request(ids) for ids in small.prompts]
    ours_said, theirs_said = (
        [reply.token_ids[:5] for reply in replies(new_scheduler(model), asked)]
        for model in (ours, theirs)
    )
    for text, a, b in zip(found.texts, ours_said, theirs_said, strict=True):
        first = next((i for i in range(5) if a[i] != b[i]), None)
        assert (text.difference and text.difference.position) == first
        if text.difference is not None and first is not None:
            assert (text.difference.checkpoint_id, text.difference.reference_id) == (
                a[first],
                b[first],
            )
    short = measured(small, bad, max_tokens=1)
    for ids, text in zip(small.prompts, short.texts, strict=True):
        error = (ours.compute_logits(ids) - theirs.compute_logits(ids)).abs().max()
        assert text.max_error == pytest.approx(float(error), rel=1e-3)


def test_progress_ends_where_it_said(small: Pair) -> None:
    seen: list[tuple[int, int]] = []
    measure(
        small.plain,
        small.reference,
        small.prompts,
        max_tokens=3,
        device="cpu",
        on_progress=lambda done, total: seen.append((done, total)),
    )
    layers = 4
    assert seen[0] == (1, layers * (2 + 3))
    assert seen[-1] == (layers * 5, layers * 5)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ([], "no prompts"),
        ([(1,), ()], "prompt 2: empty"),
        ([(1, 211)], "prompt 1: empty, or with an id beyond the model's 211"),
        ([(1,) * 120], "prompt 1: 120 tokens and a reply of 16 exceed the context of 128"),
    ],
)
def test_prompts_that_do_not_fit(small: Pair, asked: list[tuple[int, ...]], says: str) -> None:
    with pytest.raises(PromptsInvalid, match=says):
        measure(small.plain, small.reference, asked, device="cpu")


def test_what_does_not_fit_the_memory(small: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_memory, "read_free_memory", lambda device: 1000)
    with pytest.raises(NotEnoughMemory, match=r"the verification needs .* on cpu, 0\.00 GiB is"):
        measured(small, small.plain)


def test_other_options_and_models(small: Pair, tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match="tpu"):
        measure(small.plain, small.reference, small.prompts, device="tpu")
    bad = spoilt(small.plain, tmp_path / "bad", lambda ranks: None)
    config = json.loads((bad / "config.json").read_text(encoding="utf-8"))
    (bad / "config.json").write_text(json.dumps(config | {"rotary_base": 500000.0}))
    with pytest.raises(DifferentModel, match=r"config\.json: rotary_base is 500000\.0"):
        measured(small, bad)
