"""All options of `trtllm-build`: form, default, and whether a spec may set it.

Forms and defaults are those of TensorRT-LLM's `tensorrt_llm/commands/build.py` and
`tensorrt_llm/plugin/plugin.py`; a test holds them against a recording of the real parser.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.contracts.spec import Scalar

Form = Literal["int", "text", "choice", "switch", "flag"]
"""A `switch` takes the value `enable` or `disable`, a `flag` takes none."""


class SetBy(StrEnum):
    """Who sets an option."""

    SPEC = "spec"
    """`options` of the spec may set it."""
    FIELD = "field"
    """The spec has a field for it."""
    BUILDER = "builder"
    """The builder sets it, from where and how the build runs."""
    NOBODY = "nobody"
    """Refused, for the reason given."""
    INERT = "inert"
    """Without effect on these models: dropped with a warning."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of `trtllm-build`."""

    name: str
    """Without leading dashes."""
    form: Form
    default: Scalar | None
    """The value that `trtllm-build` uses if the option is not given."""
    choices: tuple[str, ...] = ()
    set_by: SetBy = SetBy.SPEC
    why: str = ""
    """The reason why nobody may set it, or why it has no effect."""
    aliases: tuple[str, ...] = ()


DISABLE = "disable"
ENABLE = "enable"
_SWITCH = (ENABLE, DISABLE)
_DTYPES = ("auto", "float16", "float32", "bfloat16", "int32", DISABLE)
_FP8 = ("fp8", DISABLE)

_ADAPTERS = "adapters are no input of a build, so the engine's key would not cover them"
_SPECULATION = "speculative decoding needs draft heads or a draft model, which llm-jp-3 has not"
_CUSTOM = "a build is described by its spec alone; put options into `options`"
_OTHER_MODELS = "it concerns other kinds of models"
_PAGED = "in-flight batching needs the paged KV cache, which is what the builder asks for"


def _switch(name: str, default: str, set_by: SetBy = SetBy.SPEC, why: str = "") -> Option:
    return Option(name, "switch", default, _SWITCH, set_by, why)


def _plugin(
    name: str,
    default: str | None,
    choices: tuple[str, ...] = _DTYPES,
    *,
    set_by: SetBy = SetBy.SPEC,
    why: str = "",
) -> Option:
    return Option(name, "choice", default, choices, set_by, why)


_WHERE = (
    Option("checkpoint_dir", "text", None, set_by=SetBy.BUILDER),
    Option("output_dir", "text", "engine_outputs", set_by=SetBy.BUILDER),
    Option("input_timing_cache", "text", None, set_by=SetBy.BUILDER),
    Option("output_timing_cache", "text", "model.cache", set_by=SetBy.BUILDER),
    Option("workers", "int", 1, set_by=SetBy.BUILDER),
    Option("log_level", "text", "info", set_by=SetBy.BUILDER),
    Option("monitor_memory", "flag", default=False, set_by=SetBy.BUILDER),
    Option("kv_cache_type", "choice", None, ("paged",), SetBy.NOBODY, _PAGED),
    Option("paged_kv_cache", "text", None, (), SetBy.NOBODY, _PAGED),
    Option("model_config", "text", None, (), SetBy.NOBODY, _CUSTOM),
    Option("build_config", "text", None, (), SetBy.NOBODY, _CUSTOM),
    Option("model_cls_file", "text", None, (), SetBy.NOBODY, _CUSTOM),
    Option("model_cls_name", "text", None, (), SetBy.NOBODY, _CUSTOM),
    Option("dry_run", "flag", False, (), SetBy.NOBODY, "it builds no engine"),
    Option(
        "visualize_network", "text", None, (), SetBy.NOBODY, "it writes files for debugging only"
    ),
)
_LIMITS = (
    Option("max_batch_size", "int", 2048, set_by=SetBy.FIELD),
    Option("max_input_len", "int", 1024, set_by=SetBy.FIELD),
    Option("max_seq_len", "int", None, set_by=SetBy.FIELD, aliases=("max_decoder_seq_len",)),
    Option("max_beam_width", "int", 1),
    Option("max_num_tokens", "int", 8192),
    Option("opt_num_tokens", "int", None),
    Option("max_encoder_input_len", "int", 1024, (), SetBy.INERT, _OTHER_MODELS),
    Option("max_prompt_embedding_table_size", "int", 0, aliases=("max_multimodal_len",)),
    Option(
        "profiling_verbosity",
        "choice",
        "layer_names_only",
        ("layer_names_only", "detailed", "none"),
    ),
    Option(
        "strip_plan", "flag", False, (), SetBy.NOBODY, "it leaves the weights out of the engine"
    ),
    Option("weight_sparsity", "flag", default=False),
    Option("weight_streaming", "flag", default=False),
    Option("fast_build", "flag", default=False),
    Option("enable_debug_output", "flag", default=False),
)
_LOGITS = (
    Option("logits_dtype", "choice", None, ("float16", "float32")),
    Option("gather_context_logits", "flag", default=False),
    Option(
        "gather_generation_logits",
        "flag",
        False,
        (),
        SetBy.INERT,
        "deprecated by TensorRT-LLM; they are asked for at run time instead",
    ),
    Option(
        "gather_all_token_logits",
        "flag",
        False,
        (),
        SetBy.NOBODY,
        "it means gather_context_logits and a deprecated option; use gather_context_logits",
    ),
)
_ADAPTERS_AND_DRAFTS = (
    Option("lora_dir", "text", None, (), SetBy.NOBODY, _ADAPTERS),
    Option("lora_ckpt_source", "choice", "hf", ("hf", "nemo"), SetBy.NOBODY, _ADAPTERS),
    Option("lora_target_modules", "text", None, (), SetBy.NOBODY, _ADAPTERS),
    Option("max_lora_rank", "int", 64, (), SetBy.NOBODY, _ADAPTERS),
    Option(
        "speculative_decoding_mode",
        "choice",
        None,
        ("draft_tokens_external", "lookahead_decoding", "medusa", "explicit_draft_tokens", "eagle"),
        SetBy.NOBODY,
        _SPECULATION,
    ),
    Option("max_draft_len", "int", 0, (), SetBy.NOBODY, _SPECULATION),
)
_PLUGINS = (
    _plugin("bert_attention_plugin", "auto", set_by=SetBy.INERT, why=_OTHER_MODELS),
    _plugin("gpt_attention_plugin", "auto"),
    _plugin(
        "gemm_plugin",
        None,
        ("auto", "float16", "float32", "bfloat16", "int32", "fp8", "nvfp4", DISABLE),
    ),
    _plugin("gemm_swiglu_plugin", DISABLE, _FP8),
    _plugin(
        "fp8_rowwise_gemm_plugin",
        DISABLE,
        set_by=SetBy.NOBODY,
        why="the builder's FP8 checkpoints have one scale per tensor, not per row",
    ),
    _plugin(
        "nccl_plugin",
        "auto",
        set_by=SetBy.INERT,
        why="TensorRT-LLM always sets it: to the model's dtype with several ranks, else to none",
    ),
    _plugin("lora_plugin", DISABLE, set_by=SetBy.NOBODY, why=_ADAPTERS),
    _switch("dora_plugin", DISABLE, SetBy.NOBODY, _ADAPTERS),
    _plugin("moe_plugin", "auto", set_by=SetBy.INERT, why=_OTHER_MODELS),
    _plugin("mamba_conv1d_plugin", "auto", set_by=SetBy.INERT, why=_OTHER_MODELS),
    _plugin("low_latency_gemm_plugin", DISABLE, _FP8),
    _plugin("low_latency_gemm_swiglu_plugin", DISABLE, _FP8),
    _plugin("gemm_allreduce_plugin", DISABLE, ("float16", "bfloat16", DISABLE)),
    _switch("context_fmha", ENABLE),
    _switch("bert_context_fmha_fp32_acc", DISABLE, SetBy.INERT, _OTHER_MODELS),
    _switch("remove_input_padding", ENABLE),
    _switch("norm_quant_fusion", DISABLE),
    _switch("reduce_fusion", DISABLE),
    _switch("user_buffer", DISABLE),
    Option("tokens_per_block", "int", 32),
    _switch("use_paged_context_fmha", ENABLE),
    _switch("use_fp8_context_fmha", ENABLE),
    _switch("fuse_fp4_quant", DISABLE, SetBy.NOBODY, "it needs NVFP4 weights"),
    _switch("multiple_profiles", DISABLE),
    _switch("paged_state", ENABLE, SetBy.INERT, _OTHER_MODELS),
    _switch(
        "streamingllm",
        DISABLE,
        SetBy.NOBODY,
        "it switches paged context attention off, and newer versions stop when it is enabled",
    ),
    _switch("use_fused_mlp", ENABLE),
    _switch("pp_reduce_scatter", DISABLE, SetBy.NOBODY, "only mixture-of-experts models have it"),
)

OPTIONS: Mapping[str, Option] = {
    option.name: option
    for option in (*_WHERE, *_LIMITS, *_LOGITS, *_ADAPTERS_AND_DRAFTS, *_PLUGINS)
}
"""By name."""
