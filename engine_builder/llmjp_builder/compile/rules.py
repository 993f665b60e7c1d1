"""Rules of TensorRT-LLM for combinations of options, models and GPUs. Pure.

Sources: `tensorrt_llm/commands/build.py`, `tensorrt_llm/builder.py` (`_init_max_seq_len`, `build`,
`optimize_model_with_config`), `tensorrt_llm/_common.py` (`check_max_num_tokens`) and the help texts
of `tensorrt_llm/plugin/plugin.py`. A value that TensorRT-LLM changes silently or with a line
in its log is changed here with a warning; one that fails there, or serves worse than expected, is
refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmjp_builder.compile.option_table import DISABLE, ENABLE
from llmjp_builder.contracts.defaults import FP8_MULTIPLE
from llmjp_builder.contracts.errors import UnsupportedGpu, UnsupportedRequest

if TYPE_CHECKING:
    from llmjp_builder.compile.model import CompilerModel
    from llmjp_builder.compile.option_review import OptionReview

_ADA = 89
_AMPERE = 80
_HOPPER = 90

_ROW_BYTES = 16
"""Rows of 16-bit matrices should be aligned to this."""
_MANY_TOKENS = 16384
"""Above it, TensorRT-LLM itself warns of slow and failing engines."""

_FP8_PLUGINS = ("gemm_swiglu_plugin", "low_latency_gemm_swiglu_plugin", "low_latency_gemm_plugin")


def check_gpu(review: OptionReview) -> None:
    """Refuse GPUs that are too old: FP8 needs Ada, bfloat16 needs Ampere."""
    model, gpu = review.model, review.gpu
    if (model.weights_fp8 or model.kv_fp8) and gpu.sm < _ADA:
        review.refuse(
            "quantization",
            f"{gpu.product} has compute capability {gpu.compute_capability}; FP8 needs 8.9",
            UnsupportedGpu,
        )
    if model.dtype == "bfloat16" and gpu.sm < _AMPERE:
        review.refuse(
            "dtype",
            f"{gpu.product} has compute capability {gpu.compute_capability}; bfloat16 needs 8.0",
            UnsupportedGpu,
        )


def check_kv_cache(review: OptionReview) -> None:
    """Refuse an FP8 KV cache without FP8 weights: it would disable paged context attention."""
    if review.model.kv_fp8 and not review.model.weights_fp8:
        review.refuse(
            "kv_cache",
            "fp8 without quantization fp8 would disable paged context attention, and with it KV "
            "cache reuse and chunked context; use kv_cache auto, or quantization fp8",
        )


def check_widths(review: OptionReview) -> None:
    """Check GEMM widths: FP8 needs multiples of 16 (NVIDIA/TensorRT-LLM issue 8811).

    Other types work with any width, but fast only where rows are aligned to 16 bytes.
    """
    model = review.model
    for name, width, can_pad in model.list_widths(model.tensor_parallel):
        if model.weights_fp8 and width % FP8_MULTIPLE:
            review.refuse(
                "tensor_parallel",
                _describe_fp8_remedy(model, name, width, can_pad),
                UnsupportedRequest,
            )
        elif not model.weights_fp8 and 2 * width % _ROW_BYTES:
            review.warn(
                "tensor_parallel",
                f"{name} is {width} per rank: rows of {2 * width} bytes are not aligned to "
                f"{_ROW_BYTES}, so slower kernels are used",
            )


def _describe_fp8_remedy(model: CompilerModel, name: str, width: int, can_pad: bool) -> str:  # noqa: FBT001
    remedies = [f"pad_intermediate {FP8_MULTIPLE}"] if can_pad else []
    remedies += [
        f"tensor parallel {tp} with pipeline parallel {model.world // tp}"
        for tp in range(model.tensor_parallel - 1, 0, -1)
        if model.tensor_parallel % tp == 0
        and not any(size % FP8_MULTIPLE for _, size, _ in model.list_widths(tp))
    ][:1]
    return f"{name} is {width} per rank, and FP8 needs a multiple of {FP8_MULTIPLE}" + (
        f"; possible: {', or '.join(remedies)}" if remedies else ""
    )


def check_serving(review: OptionReview) -> None:
    """Check what serving needs: in-flight batching with packed input and the attention plugin."""
    if not review.is_enabled("remove_input_padding"):
        review.refuse(
            "remove_input_padding", "in-flight batching needs packed input; leave it enabled"
        )
    if review.values["gpt_attention_plugin"] == DISABLE:
        review.refuse("gpt_attention_plugin", "in-flight batching and the paged KV cache need it")
    block = review.get_number("tokens_per_block")
    if block & (block - 1):
        review.refuse("tokens_per_block", f"{block} is not a power of two, as the kernels need")
    if review.values["enable_debug_output"]:
        review.warn(
            "enable_debug_output", "it keeps every layer's output: for debugging, not serving"
        )
    if review.values["gather_context_logits"]:
        review.warn("gather_context_logits", "logits of every prompt token cost memory and time")


def check_plugin_dtypes(review: OptionReview) -> None:
    """Refuse plugins of another dtype than the model's, since networks are strongly typed."""
    dtype = review.model.dtype
    for name in ("gpt_attention_plugin", "gemm_plugin", "gemm_allreduce_plugin"):
        value = review.values[name]
        if value in {"float16", "float32", "bfloat16", "int32"} - {dtype}:
            review.refuse(name, f"{value} does not fit a model in {dtype}; use {dtype} or auto")
        elif value == dtype and name != "gemm_allreduce_plugin":
            review.values[name] = "auto"


def check_gemm_plugins(review: OptionReview) -> None:
    """Check that GEMM plugins exist for these weights and this GPU, and are worth using."""
    fp8, gemm = review.model.weights_fp8, review.values["gemm_plugin"]
    if gemm == "nvfp4":
        review.refuse("gemm_plugin", "nvfp4 needs NVFP4 weights")
    elif gemm == "fp8" and not fp8:
        review.refuse("gemm_plugin", "fp8 needs quantization fp8")
    elif gemm == "fp8":
        review.warn("gemm_plugin", "fp8 pays off for small batches only; omit it for throughput")
    elif gemm == DISABLE and not fp8:
        review.warn("gemm_plugin", "auto is faster for weights that are not quantised")
    elif gemm != DISABLE and fp8:
        review.warn("gemm_plugin", f"{gemm} does not use FP8 kernels; leave it out")
    for name in _FP8_PLUGINS:
        if review.values[name] == "fp8" and not fp8:
            review.refuse(name, "fp8 needs quantization fp8")
    if review.values["gemm_swiglu_plugin"] == "fp8" and review.gpu.sm != _HOPPER:
        review.refuse("gemm_swiglu_plugin", "its kernels are for Hopper only", UnsupportedGpu)
    for name in ("gemm_swiglu_plugin", "low_latency_gemm_swiglu_plugin"):
        if review.values[name] == "fp8" and not review.is_enabled("use_fused_mlp"):
            review.refuse(name, "it needs use_fused_mlp enable")


def resolve_fusions(review: OptionReview) -> None:
    """Disable the fusions that TensorRT-LLM would disable by itself."""
    model = review.model
    if model.tensor_parallel == 1:
        reason = "there is nothing to reduce with tensor parallel 1"
        review.override("reduce_fusion", DISABLE, reason)
        review.override("gemm_allreduce_plugin", DISABLE, reason)
    if review.is_enabled("user_buffer") and not review.is_enabled("reduce_fusion"):
        review.override("user_buffer", DISABLE, "it needs reduce_fusion enable")
    if review.is_enabled("user_buffer") and not model.weights_fp8:
        review.refuse("user_buffer", "it is made for FP8 Llama models only; use quantization fp8")
    review.override("norm_quant_fusion", DISABLE, "it exists for NVFP4 weights only")


def resolve_context_attention(review: OptionReview) -> None:
    """Apply the truth table of FP8 and paged context attention in `tensorrt_llm/builder.py`."""
    model, fp8, paged = review.model, "use_fp8_context_fmha", "use_paged_context_fmha"
    if not review.is_enabled("context_fmha"):
        review.warn(
            "context_fmha", "attention over prompts is slow and takes more memory without it"
        )
        for name in (fp8, paged):
            review.override(name, DISABLE, "it needs context_fmha enable")
    elif not model.weights_fp8:
        review.override(fp8, DISABLE, "it needs FP8 weights")
        if model.kv_fp8:
            review.override(paged, DISABLE, "an FP8 KV cache needs FP8 weights for it")
    elif review.gpu.sm < _ADA:
        review.override(fp8, DISABLE, "it needs compute capability 8.9")
        if model.kv_fp8:
            review.override(paged, DISABLE, "an FP8 KV cache needs FP8 context attention for it")
    elif review.is_enabled(paged):
        if model.kv_fp8:
            review.override(fp8, ENABLE, "paged context attention over an FP8 KV cache needs it")
        else:
            review.override(
                fp8, DISABLE, "paged context attention has it with an FP8 KV cache only"
            )
    if not review.is_enabled(paged):
        review.warn(paged, "without it there is neither KV cache reuse nor chunked context")


def resolve_lengths(review: OptionReview) -> None:
    """Check max_seq_len against the positions, and drop max_input_len where it has no effect."""
    seq, positions = review.get_number("max_seq_len"), review.model.max_positions
    if seq > positions:
        review.warn(
            "max_seq_len",
            f"{seq} is more than the model's {positions} positions: text beyond them will be wrong",
        )
    if review.is_enabled("remove_input_padding") and review.is_enabled("context_fmha"):
        if "max_input_len" in review.requested and review.get_number("max_input_len") < seq:
            review.warn(
                "max_input_len",
                "has no effect on an engine with packed input and fused attention: prompts may be "
                f"as long as max_seq_len {seq} allows",
            )
        review.values.pop("max_input_len", None)
        return
    if "max_input_len" not in review.requested:
        review.values["max_input_len"] = seq
    elif review.get_number("max_input_len") > seq:
        review.override("max_input_len", seq, f"it is clipped to max_seq_len {seq}")


def resolve_token_counts(review: OptionReview) -> None:
    """Bound max_num_tokens and opt_num_tokens, as `check_max_num_tokens` does."""
    most = review.get_number("max_seq_len") * review.get_number("max_batch_size")
    block = review.get_number("tokens_per_block")
    if review.get_number("max_num_tokens") > _MANY_TOKENS:
        review.warn(
            "max_num_tokens", f"above {_MANY_TOKENS} engines are no faster and may fail at run time"
        )
    if review.get_number("max_num_tokens") > most:
        review.override("max_num_tokens", most, f"max_seq_len x max_batch_size is only {most}")
    tokens = review.get_number("max_num_tokens")
    if not review.is_enabled("context_fmha"):
        if tokens < (least := review.get_number("max_input_len")):
            review.override("max_num_tokens", least, "without context_fmha it covers max_input_len")
    elif tokens < block:
        review.override("max_num_tokens", block, f"it covers one block of {block} tokens")
    _resolve_opt_num_tokens(review)


def _resolve_opt_num_tokens(review: OptionReview) -> None:
    if "opt_num_tokens" not in review.requested:
        return
    if review.is_enabled("multiple_profiles"):
        review.refuse("opt_num_tokens", "excludes multiple_profiles enable; give one of the two")
        return
    tokens = review.get_number("max_num_tokens")
    if review.get_number("opt_num_tokens") > tokens:
        review.override("opt_num_tokens", tokens, f"it is clipped to max_num_tokens {tokens}")
    deduced = min(review.get_number("max_batch_size") * review.get_number("max_beam_width"), tokens)
    if review.get_number("opt_num_tokens") == deduced:
        del review.values["opt_num_tokens"]


OptionRule = Callable[["OptionReview"], None]

RULES: tuple[OptionRule, ...] = (
    check_gpu,
    check_kv_cache,
    check_widths,
    check_serving,
    check_plugin_dtypes,
    check_gemm_plugins,
    resolve_fusions,
    resolve_context_attention,
    resolve_lengths,
    resolve_token_counts,
)
"""The order matters: later rules read what earlier ones decided."""
