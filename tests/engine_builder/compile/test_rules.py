"""Every rule about combinations, one row each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from llmjp_builder.compile.options import decide_options
from llmjp_builder.contracts.errors import (
    BuilderError,
    InvalidSpec,
    UnsupportedGpu,
    UnsupportedRequest,
)
from tests.engine_builder.compile.samples import A100, BF16, FP8, FP8_172B_TP8, H100, L40S, T4, spec

if TYPE_CHECKING:
    from llmjp_builder.compile.gpu import Gpu
    from llmjp_builder.compile.model import CompilerModel

FP8_BF16_KV = replace(FP8, kv_fp8=False)
BF16_TP2 = replace(BF16, tensor_parallel=2)
FP8_TP2 = replace(FP8, tensor_parallel=2)


@pytest.mark.parametrize(
    ("model", "gpu", "fields", "option", "kind", "says"),
    [
        (FP8, A100, {}, "quantization", UnsupportedGpu, "FP8 needs 8.9"),
        (BF16, T4, {}, "dtype", UnsupportedGpu, "bfloat16 needs 8.0"),
        (replace(BF16, kv_fp8=True), H100, {}, "kv_cache", InvalidSpec, "KV cache reuse"),
        (
            FP8_172B_TP8,
            H100,
            {},
            "tensor_parallel",
            UnsupportedRequest,
            "intermediate_size is 4808",
        ),
        (FP8_172B_TP8, H100, {}, "tensor_parallel", UnsupportedRequest, "pad_intermediate 16"),
        (
            FP8_172B_TP8,
            H100,
            {},
            "tensor_parallel",
            UnsupportedRequest,
            "tensor parallel 4 with pipeline parallel 2",
        ),
        (replace(FP8, hidden_size=2056), H100, {}, "tensor_parallel", UnsupportedRequest, "2056"),
        (BF16, H100, {"remove_input_padding": False}, "remove_input_padding", InvalidSpec, ""),
        (BF16, H100, {"gpt_attention_plugin": "disable"}, "gpt_attention_plugin", InvalidSpec, ""),
        (BF16, H100, {"gpt_attention_plugin": "float16"}, "gpt_attention_plugin", InvalidSpec, ""),
        (BF16, H100, {"tokens_per_block": 48}, "tokens_per_block", InvalidSpec, "power of two"),
        (BF16, H100, {"gemm_plugin": "float16"}, "gemm_plugin", InvalidSpec, "use bfloat16"),
        (BF16, H100, {"gemm_plugin": "fp8"}, "gemm_plugin", InvalidSpec, "quantization fp8"),
        (FP8, H100, {"gemm_plugin": "nvfp4"}, "gemm_plugin", InvalidSpec, "NVFP4"),
        (BF16, H100, {"gemm_swiglu_plugin": "fp8"}, "gemm_swiglu_plugin", InvalidSpec, ""),
        (FP8, L40S, {"gemm_swiglu_plugin": "fp8"}, "gemm_swiglu_plugin", UnsupportedGpu, "Hopper"),
        (
            FP8,
            H100,
            {"gemm_swiglu_plugin": "fp8", "use_fused_mlp": False},
            "gemm_swiglu_plugin",
            InvalidSpec,
            "use_fused_mlp",
        ),
        (
            FP8,
            L40S,
            {"low_latency_gemm_swiglu_plugin": "fp8", "use_fused_mlp": False},
            "low_latency_gemm_swiglu_plugin",
            InvalidSpec,
            "use_fused_mlp",
        ),
        (
            BF16,
            H100,
            {"low_latency_gemm_plugin": "fp8"},
            "low_latency_gemm_plugin",
            InvalidSpec,
            "",
        ),
        (
            BF16_TP2,
            H100,
            {"gemm_allreduce_plugin": "float16"},
            "gemm_allreduce_plugin",
            InvalidSpec,
            "bfloat16",
        ),
        (
            BF16_TP2,
            H100,
            {"reduce_fusion": True, "user_buffer": True},
            "user_buffer",
            InvalidSpec,
            "FP8",
        ),
        (
            FP8,
            H100,
            {"multiple_profiles": True, "opt_num_tokens": 64},
            "opt_num_tokens",
            InvalidSpec,
            "multiple_profiles",
        ),
    ],
)
def test_refused(
    model: CompilerModel,
    gpu: Gpu,
    fields: dict[str, Any],
    option: str,
    kind: type[BuilderError],
    says: str,
) -> None:
    options = decide_options(spec(options=fields), model, gpu)
    refused = [found for found in options.findings if found.refusal is not None]
    assert [(found.option, found.refusal) for found in refused] == [(option, kind)]
    assert says in refused[0].reason
    with pytest.raises(kind):
        options.require_accepted()


@pytest.mark.parametrize(
    ("model", "fields", "option", "value", "says"),
    [
        (BF16, {"reduce_fusion": True}, "reduce_fusion", "disable", "tensor parallel 1"),
        (
            FP8_TP2,
            {"reduce_fusion": False, "user_buffer": True},
            "user_buffer",
            "disable",
            "needs reduce_fusion",
        ),
        (BF16, {"norm_quant_fusion": True}, "norm_quant_fusion", None, "NVFP4"),
        (BF16, {"gemm_allreduce_plugin": "bfloat16"}, "gemm_allreduce_plugin", None, "nothing"),
        (BF16, {"gemm_plugin": "disable"}, "gemm_plugin", "disable", "auto is faster"),
        (FP8, {"gemm_plugin": "auto"}, "gemm_plugin", "auto", "leave it out"),
        (FP8, {"gemm_plugin": "fp8"}, "gemm_plugin", "fp8", "small batches"),
        (BF16, {"use_fp8_context_fmha": True}, "use_fp8_context_fmha", "disable", "FP8 weights"),
        (FP8, {"use_fp8_context_fmha": False}, "use_fp8_context_fmha", "enable", "needs it"),
        (
            FP8_BF16_KV,
            {"use_fp8_context_fmha": True},
            "use_fp8_context_fmha",
            "disable",
            "with an FP8 KV cache only",
        ),
        (BF16, {"max_num_tokens": 32768}, "max_num_tokens", 32768, "above 16384"),
        (BF16, {"max_num_tokens": 16}, "max_num_tokens", 32, "one block"),
        (BF16, {"opt_num_tokens": 9000}, "opt_num_tokens", 8192, "clipped"),
        (BF16, {"gather_context_logits": True}, "gather_context_logits", True, "memory"),
        (BF16, {"enable_debug_output": True}, "enable_debug_output", True, "debugging"),
        (
            BF16,
            {"use_paged_context_fmha": False},
            "use_paged_context_fmha",
            "disable",
            "neither KV cache reuse",
        ),
    ],
)
def test_warned_and_settled(
    model: CompilerModel, fields: dict[str, Any], option: str, value: object, says: str
) -> None:
    options = decide_options(spec(options=fields), model, H100)
    options.require_accepted()
    assert options.values.get(option) == value
    assert [found.option for found in options.findings] == [option]
    assert says in options.warnings[0]


TRUTH = [
    # weights, kv cache, GPU, paged asked -> fp8 context FMHA, paged context FMHA
    (False, False, H100, "enable", "disable", "enable"),
    (False, False, A100, "enable", "disable", "enable"),
    (False, True, H100, "enable", "disable", "disable"),
    (True, True, H100, "enable", "enable", "enable"),
    (True, True, L40S, "enable", "enable", "enable"),
    (True, False, H100, "enable", "disable", "enable"),
    (True, True, A100, "enable", "disable", "disable"),
    (True, False, A100, "enable", "disable", "enable"),
    (True, True, H100, "disable", "enable", "disable"),
]


@pytest.mark.parametrize(("weights", "kv", "gpu", "asked", "fp8", "paged"), TRUTH)
def test_context_attention(
    weights: bool, kv: bool, gpu: Gpu, asked: str, fp8: str, paged: str
) -> None:
    model = replace(BF16, weights_fp8=weights, kv_fp8=kv)
    options = decide_options(spec(options={"use_paged_context_fmha": asked}), model, gpu)
    assert options.values["use_fp8_context_fmha"] == fp8
    assert options.values["use_paged_context_fmha"] == paged


def test_without_context_fmha_both_are_off_and_max_input_len_counts() -> None:
    options = decide_options(
        spec(options={"context_fmha": False, "max_num_tokens": 64}, max_input_len=3000), FP8, H100
    )
    options.require_accepted()
    assert options.values["use_fp8_context_fmha"] == "disable"
    assert options.values["use_paged_context_fmha"] == "disable"
    assert options.values["max_input_len"] == 3000
    assert options.values["max_num_tokens"] == 3000
    assert {found.option for found in options.findings} == {
        "context_fmha",
        "use_paged_context_fmha",
        "max_num_tokens",
    }


def test_without_context_fmha_prompts_may_fill_the_context() -> None:
    options = decide_options(spec(options={"context_fmha": False}), BF16, H100)
    assert options.values["max_input_len"] == 4096
    longer = decide_options(spec(options={"context_fmha": False}, max_input_len=9999), BF16, H100)
    assert longer.values == options.values
    assert any("clipped to max_seq_len 4096" in warning for warning in longer.warnings)


def test_max_input_len_is_said_to_have_no_effect_where_it_would_limit() -> None:
    limited = decide_options(spec(max_input_len=3072), BF16, H100)
    assert [found.option for found in limited.findings] == ["max_input_len"]
    assert "max_input_len" not in limited.values
    assert decide_options(spec(max_input_len=4096), BF16, H100).findings == ()


def test_more_than_the_models_positions_is_warned_about() -> None:
    options = decide_options(spec(max_seq_len=8192), BF16, H100)
    options.require_accepted()
    assert "4096 positions" in options.warnings[0]


def test_max_num_tokens_is_clipped_silently_where_nobody_asked_for_it() -> None:
    options = decide_options(spec(max_batch_size=2, max_seq_len=1024), BF16, H100)
    assert options.values["max_num_tokens"] == 2048
    assert options.findings == ()
    asked = decide_options(
        spec(max_batch_size=2, max_seq_len=1024, options={"max_num_tokens": 4096}), BF16, H100
    )
    assert asked.values == options.values
    assert "only 2048" in asked.warnings[0]


def test_opt_num_tokens_takes_the_place_of_profiles_that_nobody_asked_for() -> None:
    options = decide_options(spec(options={"opt_num_tokens": 64}), FP8, H100)
    options.require_accepted()
    assert options.values["multiple_profiles"] == "disable"
    assert options.values["opt_num_tokens"] == 64


def test_unaligned_rows_of_bf16_are_warned_about() -> None:
    model = replace(BF16, tensor_parallel=16, intermediate_size=38464, num_heads=96)
    options = decide_options(spec(), model, H100)
    options.require_accepted()
    assert "4808 bytes" in options.warnings[0]


def test_a_padded_width_is_accepted() -> None:
    padded = replace(FP8_172B_TP8, intermediate_size=8 * 4816)
    assert decide_options(spec(), padded, H100).findings == ()
