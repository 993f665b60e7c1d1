"""What a spec's options come to: parsing, defaults, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from llmjp_builder.compile import decide_engine_inputs
from llmjp_builder.compile.options import decide_options
from llmjp_builder.contracts.errors import InvalidSpec, UnsupportedGpu
from tests.engine_builder.compile.samples import (
    BF16,
    FP8,
    FP8_172B_TP8,
    H100,
    L40S,
    T4,
    VERSIONS,
    spec,
)

if TYPE_CHECKING:
    from llmjp_builder.compile.gpu import Gpu
    from llmjp_builder.compile.model import CompilerModel
    from llmjp_builder.contracts.spec import Scalar

FP8_TP4 = replace(FP8, tensor_parallel=4)


@pytest.mark.parametrize(
    ("model", "gpu", "expected"),
    [
        (
            BF16,
            H100,
            {"gemm_plugin": "auto", "multiple_profiles": "disable", "reduce_fusion": "disable",
             "user_buffer": "disable", "use_fp8_context_fmha": "disable"},
        ),
        (
            FP8,
            H100,
            {"gemm_plugin": "disable", "multiple_profiles": "enable", "reduce_fusion": "disable",
             "user_buffer": "disable", "use_fp8_context_fmha": "enable"},
        ),
        (
            FP8_TP4,
            H100,
            {"gemm_plugin": "disable", "multiple_profiles": "enable", "reduce_fusion": "enable",
             "user_buffer": "enable", "use_fp8_context_fmha": "enable"},
        ),
        (
            FP8_TP4,
            replace(H100, product="NVIDIA-H100-PCIe"),
            {"reduce_fusion": "disable", "user_buffer": "disable"},
        ),
        (FP8_TP4, L40S, {"reduce_fusion": "disable", "user_buffer": "disable"}),
        (
            replace(FP8_TP4, pipeline_parallel=2),
            H100,
            {"reduce_fusion": "disable", "user_buffer": "disable"},
        ),
        (replace(FP8, kv_fp8=False), H100, {"use_fp8_context_fmha": "disable"}),
    ],
)  # fmt: skip
def test_defaults(model: CompilerModel, gpu: Gpu, expected: dict[str, Scalar]) -> None:
    options = decide_options(spec(), model, gpu)
    assert options.findings == ()
    assert expected.items() <= options.values.items()
    always: dict[str, Scalar] = {
        "max_batch_size": 128,
        "max_seq_len": 4096,
        "max_num_tokens": 8192,
        "max_beam_width": 1,
        "kv_cache_type": "paged",
        "context_fmha": "enable",
        "use_paged_context_fmha": "enable",
        "remove_input_padding": "enable",
    }
    assert always.items() <= options.values.items()
    assert options.reasons.keys() == options.values.keys()


def test_what_the_spec_says_needs_no_reason_of_ours() -> None:
    options = decide_options(spec(max_batch_size=64, max_seq_len=2048), BF16, H100)
    assert options.values["max_batch_size"] == 64
    assert options.values["max_seq_len"] == 2048
    assert not {"max_batch_size", "max_seq_len"} & options.reasons.keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gem_plugin": "auto"}, "did you mean gemm_plugin?"),
        ({"--gemm-plugin": "auto"}, "did you mean gemm_plugin?"),
        ({"frobnicate": 1}, "no such option"),
        ({"max_decoder_seq_len": 1}, "use its other name, max_seq_len"),
        ({"max_batch_size": 8}, "set the spec's field max_batch_size"),
        ({"workers": 8}, "the builder sets it"),
        ({"output_dir": "/x"}, "the builder sets it"),
        ({"build_config": "/x.json"}, "described by its spec alone"),
        ({"streamingllm": "enable"}, "paged context attention off"),
        ({"kv_cache_type": "continuous"}, "paged KV cache"),
        ({"paged_kv_cache": "enable"}, "paged KV cache"),
        ({"lora_plugin": "auto"}, "no input of a build"),
        ({"max_draft_len": 4}, "draft heads"),
        ({"strip_plan": True}, "leaves the weights out"),
        ({"dry_run": True}, "builds no engine"),
        ({"fp8_rowwise_gemm_plugin": "auto"}, "one scale per tensor"),
        ({"pp_reduce_scatter": True}, "mixture-of-experts"),
        ({"fuse_fp4_quant": True}, "NVFP4"),
        ({"gather_all_token_logits": True}, "use gather_context_logits"),
        ({"gemm_plugin": "int8"}, "expected auto, float16"),
        ({"gemm_plugin": 1}, "expected auto, float16"),
        ({"max_num_tokens": "8192"}, "expected an integer of at least 1"),
        ({"max_num_tokens": True}, "expected an integer of at least 1"),
        ({"max_num_tokens": 0}, "expected an integer of at least 1"),
        ({"max_prompt_embedding_table_size": -1}, "expected an integer of at least 0"),
        ({"multiple_profiles": "yes"}, "expected enable, disable"),
        ({"weight_streaming": "enable"}, "expected true or false"),
    ],
)
def test_refused_by_name(options: dict[str, Scalar], message: str) -> None:
    found = decide_options(spec(options=options), BF16, H100)
    with pytest.raises(InvalidSpec, match=next(iter(options)).strip("-")) as raised:
        found.require_accepted()
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"mamba_conv1d_plugin": "disable"},
        {"bert_attention_plugin": "float16"},
        {"moe_plugin": "disable"},
        {"paged_state": False},
        {"nccl_plugin": "float16"},
        {"max_encoder_input_len": 5},
        {"gather_generation_logits": True},
    ],
)
def test_options_without_effect_are_dropped_with_a_warning(options: dict[str, Scalar]) -> None:
    found = decide_options(spec(options=options), BF16, H100)
    found.require_accepted()
    assert found.values == decide_options(spec(), BF16, H100).values
    assert next(iter(options)) in found.warnings[0]


def test_true_and_false_stand_for_enable_and_disable() -> None:
    words = decide_options(spec(options={"use_fused_mlp": "disable"}), BF16, H100)
    booleans = decide_options(spec(options={"use_fused_mlp": False}), BF16, H100)
    assert words.values == booleans.values
    assert words.values["use_fused_mlp"] == "disable"


def test_all_obstacles_are_named_and_the_first_decides_the_class() -> None:
    found = decide_options(spec(options={"workers": 2}), FP8_172B_TP8, T4)
    with pytest.raises(InvalidSpec) as raised:
        found.require_accepted()
    for word in ("workers", "quantization", "dtype", "4808"):
        assert word in str(raised.value)
    with pytest.raises(UnsupportedGpu):
        decide_options(spec(), FP8, T4).require_accepted()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (spec(), spec(options={"gemm_plugin": "auto"})),
        (spec(), spec(options={"gemm_plugin": "bfloat16"})),
        (spec(), spec(max_seq_len=4096, max_batch_size=128)),
        (spec(), spec(max_input_len=3072)),
        (spec(), spec(options={"tokens_per_block": 32, "use_fused_mlp": True})),
        (spec(), spec(options={"reduce_fusion": True, "user_buffer": "enable"})),
        (spec(), spec(options={"opt_num_tokens": 128})),
        (spec(max_batch_size=1, max_seq_len=64), spec(max_batch_size=1, max_seq_len=64,
                                                      options={"max_num_tokens": 64})),
    ],
)  # fmt: skip
def test_specs_of_the_same_engine_have_the_same_inputs(one: object, other: object) -> None:
    document = {
        "architecture": "LlamaForCausalLM", "dtype": "bfloat16", "hidden_size": 2048,
        "intermediate_size": 7168, "num_attention_heads": 16, "num_key_value_heads": 16,
        "head_size": 128, "max_position_embeddings": 4096, "rotary_scaling": None,
        "mapping": {"tp_size": 1, "pp_size": 1, "world_size": 1},
        "quantization": {"quant_algo": None, "kv_cache_quant_algo": None},
    }  # fmt: skip
    first, second = (
        decide_engine_inputs(document, each, H100, VERSIONS)  # type: ignore[arg-type]
        for each in (one, other)
    )
    assert first == second
    eight = decide_engine_inputs(document, spec(), replace(H100, count=8), VERSIONS)
    assert eight == decide_engine_inputs(document, spec(), H100, VERSIONS)
