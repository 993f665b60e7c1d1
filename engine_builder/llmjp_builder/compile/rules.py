"""What TensorRT-LLM makes of combinations of options, models and GPUs. Pure.

Sources: `tensorrt_llm/commands/build.py`, `tensorrt_llm/builder.py` (`_init_max_seq_len`, `build`,
`optimize_model_with_config`), `tensorrt_llm/_common.py` (`check_max_num_tokens`) and the help texts
of `tensorrt_llm/plugin/plugin.py`. What TensorRT-LLM changes silently or with a line in its log is
changed here with a warning; what fails there, or serves worse than one would think, is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmjp_builder.compile.option_table import DISABLE, ENABLE
from llmjp_builder.contracts.errors import Unsupported, UnsupportedGpu

if TYPE_CHECKING:
    from llmjp_builder.compile.draft import Draft
    from llmjp_builder.compile.model import EngineModel

_ADA = 89
_AMPERE = 80
_HOPPER = 90

_FP8_MULTIPLE = 16
"""FP8 matrix multiplications want each dimension to be a multiple of this."""
_ROW_BYTES = 16
"""Rows of 16-bit matrices should be aligned to this."""
_MANY_TOKENS = 16384
"""Above it, TensorRT-LLM itself warns of slow and failing engines."""

_FP8_PLUGINS = ("gemm_swiglu_plugin", "low_latency_gemm_swiglu_plugin", "low_latency_gemm_plugin")


def gpu_can_run_it(draft: Draft) -> None:
    """FP8 needs Ada or Hopper, bfloat16 needs Ampere."""
    model, gpu = draft.model, draft.gpu
    if (model.weights_fp8 or model.kv_fp8) and gpu.sm < _ADA:
        draft.refuse(
            "quantization",
            f"{gpu.product} has compute capability {gpu.compute_capability}; FP8 needs 8.9",
            UnsupportedGpu,
        )
    if model.dtype == "bfloat16" and gpu.sm < _AMPERE:
        draft.refuse(
            "dtype",
            f"{gpu.product} has compute capability {gpu.compute_capability}; bfloat16 needs 8.0",
            UnsupportedGpu,
        )


def kv_cache_fits_weights(draft: Draft) -> None:
    """An FP8 KV cache without FP8 weights switches paged context attention off."""
    if draft.model.kv_fp8 and not draft.model.weights_fp8:
        draft.refuse(
            "kv_cache",
            "fp8 without quantization fp8 would switch paged context attention off, and with it "
            "reuse of the KV cache and chunked context; use kv_cache auto, or quantization fp8",
        )


def widths_fit_kernels(draft: Draft) -> None:
    """FP8 GEMMs take multiples of 16 (NVIDIA/TensorRT-LLM issue 8811), others like 16 bytes."""
    model = draft.model
    for name, width, can_pad in model.widths(model.tensor_parallel):
        if model.weights_fp8 and width % _FP8_MULTIPLE:
            draft.refuse("tensor_parallel", _fp8_remedy(model, name, width, can_pad), Unsupported)
        elif not model.weights_fp8 and 2 * width % _ROW_BYTES:
            draft.warn(
                "tensor_parallel",
                f"{name} is {width} per rank: rows of {2 * width} bytes are not aligned to "
                f"{_ROW_BYTES}, which slow kernels have to serve",
            )


def _fp8_remedy(model: EngineModel, name: str, width: int, can_pad: bool) -> str:  # noqa: FBT001
    remedies = [f"pad_intermediate {_FP8_MULTIPLE}"] if can_pad else []
    remedies += [
        f"tensor parallel {tp} with pipeline parallel {model.world // tp}"
        for tp in range(model.tensor_parallel - 1, 0, -1)
        if model.tensor_parallel % tp == 0
        and not any(size % _FP8_MULTIPLE for _, size, _ in model.widths(tp))
    ][:1]
    return f"{name} is {width} per rank, and FP8 needs a multiple of {_FP8_MULTIPLE}" + (
        f"; possible: {', or '.join(remedies)}" if remedies else ""
    )


def serving_can_use_it(draft: Draft) -> None:
    """In-flight batching needs packed input, and attention by the plugin in the model's dtype."""
    if not draft.enabled("remove_input_padding"):
        draft.refuse(
            "remove_input_padding", "in-flight batching needs packed input; leave it enabled"
        )
    if draft.values["gpt_attention_plugin"] == DISABLE:
        draft.refuse("gpt_attention_plugin", "in-flight batching and the paged KV cache need it")
    block = draft.number("tokens_per_block")
    if block & (block - 1):
        draft.refuse("tokens_per_block", f"{block} is no power of two, which the kernels need")
    if draft.values["enable_debug_output"]:
        draft.warn(
            "enable_debug_output", "every layer's output is kept: for debugging, not serving"
        )
    if draft.values["gather_context_logits"]:
        draft.warn("gather_context_logits", "logits of every prompt token take memory and time")


def plugins_have_the_models_dtype(draft: Draft) -> None:
    """The networks are strongly typed: a plugin of another dtype does not fit in."""
    dtype = draft.model.dtype
    for name in ("gpt_attention_plugin", "gemm_plugin", "gemm_allreduce_plugin"):
        value = draft.values[name]
        if value in {"float16", "float32", "bfloat16", "int32"} - {dtype}:
            draft.refuse(name, f"{value} does not fit a model in {dtype}; use {dtype} or auto")
        elif value == dtype and name != "gemm_allreduce_plugin":
            draft.values[name] = "auto"


def gemm_plugins_fit_weights(draft: Draft) -> None:
    """Which GEMM plugins exist for which weights and GPUs, and which are advised."""
    fp8, gemm = draft.model.weights_fp8, draft.values["gemm_plugin"]
    if gemm == "nvfp4":
        draft.refuse("gemm_plugin", "nvfp4 needs NVFP4 weights")
    elif gemm == "fp8" and not fp8:
        draft.refuse("gemm_plugin", "fp8 needs quantization fp8")
    elif gemm == "fp8":
        draft.warn("gemm_plugin", "fp8 pays for small batches only; leave it out for throughput")
    elif gemm == DISABLE and not fp8:
        draft.warn("gemm_plugin", "auto is faster for weights that are not quantised")
    elif gemm != DISABLE and fp8:
        draft.warn("gemm_plugin", f"{gemm} leaves FP8 kernels unused; leave it out")
    for name in _FP8_PLUGINS:
        if draft.values[name] == "fp8" and not fp8:
            draft.refuse(name, "fp8 needs quantization fp8")
    if draft.values["gemm_swiglu_plugin"] == "fp8" and draft.gpu.sm != _HOPPER:
        draft.refuse("gemm_swiglu_plugin", "its kernels are for Hopper only", UnsupportedGpu)
    for name in ("gemm_swiglu_plugin", "low_latency_gemm_swiglu_plugin"):
        if draft.values[name] == "fp8" and not draft.enabled("use_fused_mlp"):
            draft.refuse(name, "it needs use_fused_mlp enable")


def fusions_apply(draft: Draft) -> None:
    """Which fusions TensorRT-LLM switches off by itself."""
    model = draft.model
    if model.tensor_parallel == 1:
        reason = "there is nothing to reduce with tensor parallel 1"
        draft.settle("reduce_fusion", DISABLE, reason)
        draft.settle("gemm_allreduce_plugin", DISABLE, reason)
    if draft.enabled("user_buffer") and not draft.enabled("reduce_fusion"):
        draft.settle("user_buffer", DISABLE, "it needs reduce_fusion enable")
    if draft.enabled("user_buffer") and not model.weights_fp8:
        draft.refuse("user_buffer", "it is made for FP8 Llama models only; use quantization fp8")
    draft.settle("norm_quant_fusion", DISABLE, "it exists for NVFP4 weights only")


def context_attention_applies(draft: Draft) -> None:
    """The truth table of FP8 and paged context attention in `tensorrt_llm/builder.py`."""
    model, fp8, paged = draft.model, "use_fp8_context_fmha", "use_paged_context_fmha"
    if not draft.enabled("context_fmha"):
        draft.warn(
            "context_fmha", "attention over prompts is slow and takes more memory without it"
        )
        for name in (fp8, paged):
            draft.settle(name, DISABLE, "it needs context_fmha enable")
    elif not model.weights_fp8:
        draft.settle(fp8, DISABLE, "it needs FP8 weights")
        if model.kv_fp8:
            draft.settle(paged, DISABLE, "an FP8 KV cache needs FP8 weights for it")
    elif draft.gpu.sm < _ADA:
        draft.settle(fp8, DISABLE, "it needs compute capability 8.9")
        if model.kv_fp8:
            draft.settle(paged, DISABLE, "an FP8 KV cache needs FP8 context attention for it")
    elif draft.enabled(paged):
        if model.kv_fp8:
            draft.settle(fp8, ENABLE, "paged context attention over an FP8 KV cache needs it")
        else:
            draft.settle(fp8, DISABLE, "paged context attention has it with an FP8 KV cache only")
    if not draft.enabled(paged):
        draft.warn(paged, "without it there is neither reuse of the KV cache nor chunked context")


def lengths_apply(draft: Draft) -> None:
    """max_seq_len against the positions; max_input_len counts only without fused attention."""
    seq, positions = draft.number("max_seq_len"), draft.model.max_positions
    if seq > positions:
        draft.warn(
            "max_seq_len",
            f"{seq} is more than the model's {positions} positions: "
            "what lies beyond comes out wrong",
        )
    if draft.enabled("remove_input_padding") and draft.enabled("context_fmha"):
        if "max_input_len" in draft.asked and draft.number("max_input_len") < seq:
            draft.warn(
                "max_input_len",
                "has no effect on an engine with packed input and fused attention: prompts may be "
                f"as long as max_seq_len {seq} allows",
            )
        draft.values.pop("max_input_len", None)
        return
    if "max_input_len" not in draft.asked:
        draft.values["max_input_len"] = seq
    elif draft.number("max_input_len") > seq:
        draft.settle("max_input_len", seq, f"it is clipped to max_seq_len {seq}")


def token_counts_apply(draft: Draft) -> None:
    """`check_max_num_tokens`: bounds of max_num_tokens, and what opt_num_tokens comes to."""
    most = draft.number("max_seq_len") * draft.number("max_batch_size")
    block = draft.number("tokens_per_block")
    if draft.number("max_num_tokens") > _MANY_TOKENS:
        draft.warn(
            "max_num_tokens", f"above {_MANY_TOKENS} engines get no faster and may fail at run time"
        )
    if draft.number("max_num_tokens") > most:
        draft.settle("max_num_tokens", most, f"max_seq_len x max_batch_size is only {most}")
    tokens = draft.number("max_num_tokens")
    if not draft.enabled("context_fmha"):
        if tokens < (least := draft.number("max_input_len")):
            draft.settle("max_num_tokens", least, "without context_fmha it covers max_input_len")
    elif tokens < block:
        draft.settle("max_num_tokens", block, f"it covers one block of {block} tokens")
    _opt_num_tokens(draft)


def _opt_num_tokens(draft: Draft) -> None:
    if "opt_num_tokens" not in draft.asked:
        return
    if draft.enabled("multiple_profiles"):
        draft.refuse("opt_num_tokens", "excludes multiple_profiles enable; give one of the two")
        return
    tokens = draft.number("max_num_tokens")
    if draft.number("opt_num_tokens") > tokens:
        draft.settle("opt_num_tokens", tokens, f"it is clipped to max_num_tokens {tokens}")
    deduced = min(draft.number("max_batch_size") * draft.number("max_beam_width"), tokens)
    if draft.number("opt_num_tokens") == deduced:
        del draft.values["opt_num_tokens"]


Rule = Callable[["Draft"], None]

RULES: tuple[Rule, ...] = (
    gpu_can_run_it,
    kv_cache_fits_weights,
    widths_fit_kernels,
    serving_can_use_it,
    plugins_have_the_models_dtype,
    gemm_plugins_fit_weights,
    fusions_apply,
    context_attention_applies,
    lengths_apply,
    token_counts_apply,
)
"""In this order: later ones read what earlier ones settled."""
