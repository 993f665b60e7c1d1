"""The tensors of NVIDIA's C++ model `tensorrt_llm`, as Triton must be told of them.

Names, types and dims are those of NVIDIA/TensorRT-LLM 1.3.0rc3,
triton_backend/all_models/inflight_batcher_llm/tensorrt_llm/config.pbtxt, which 1.2.1 shares. Triton
hands a tensor to a model only if its configuration declares it. Dims exclude the batch dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DataType = Literal["INT32", "INT64", "UINT64", "UINT8", "FP16", "FP32", "BOOL", "STRING"]


@dataclass(frozen=True, slots=True)
class EngineTensor:
    """One input or output of the C++ model."""

    name: str
    data_type: DataType
    dims: tuple[int, ...] = (1,)
    """-1 is any length."""
    optional: bool = True
    ragged: bool = False
    """Rows of different lengths may be batched by Triton."""
    scalar: bool = False
    """The model is given shape [batch] for [batch, 1]."""


def _declare_scalars(data_type: DataType, names: str) -> tuple[EngineTensor, ...]:
    return tuple(EngineTensor(name, data_type, scalar=True) for name in names.split())


def _declare_lists(
    data_type: DataType, names: str, dims: tuple[int, ...] = (-1,)
) -> tuple[EngineTensor, ...]:
    return tuple(EngineTensor(name, data_type, dims, ragged=True) for name in names.split())


def _declare_batched(data_type: DataType, names: str) -> tuple[EngineTensor, ...]:
    return tuple(EngineTensor(name, data_type) for name in names.split())


ENGINE_INPUTS: tuple[EngineTensor, ...] = (
    EngineTensor("input_lengths", "INT32", optional=False, scalar=True),
    EngineTensor("request_output_len", "INT32", optional=False, scalar=True),
    *_declare_lists("INT32", "input_ids draft_input_ids decoder_input_ids"),
    *_declare_lists("FP16", "encoder_input_features", (-1, -1)),
    *_declare_lists("FP32", "draft_logits", (-1, -1)),
    *_declare_scalars("INT32", "encoder_output_lengths num_return_sequences decoder_input_lengths"),
    *_declare_scalars("FP32", "draft_acceptance_threshold"),
    *_declare_scalars("INT32", "end_id pad_id"),
    *_declare_lists("INT32", "stop_words_list bad_words_list", (2, -1)),
    *_declare_lists("FP32", "embedding_bias"),
    *_declare_scalars("INT32", "beam_width runtime_top_k runtime_top_p_reset_ids min_tokens"),
    *_declare_scalars("FP32", "temperature runtime_top_p runtime_top_p_min runtime_top_p_decay"),
    *_declare_scalars("FP32", "len_penalty repetition_penalty presence_penalty frequency_penalty"),
    *_declare_scalars("FP32", "beam_search_diversity_rate"),
    *_declare_scalars("UINT64", "seed lora_task_id"),
    *_declare_scalars("BOOL", "early_stopping exclude_input_in_output stop streaming"),
    *_declare_scalars("BOOL", "return_log_probs return_context_logits return_generation_logits"),
    *_declare_scalars(
        "BOOL", "return_perf_metrics return_num_input_tokens return_num_output_tokens"
    ),
    *_declare_lists("FP16", "prompt_embedding_table lora_weights", (-1, -1)),
    *_declare_lists("UINT64", "prompt_table_extra_ids"),
    *_declare_scalars("INT32", "prompt_vocab_size"),
    *_declare_lists("BOOL", "cross_attention_mask", (-1, -1)),
    EngineTensor("mrope_rotary_cos_sin", "FP32", (-1,)),
    EngineTensor("mrope_position_deltas", "INT64"),
    *_declare_lists("INT32", "lora_config", (-1, 3)),
    *_declare_lists("UINT8", "context_phase_params"),
    *_declare_lists("BOOL", "skip_cross_attn_blocks", (1,)),
    *_declare_lists("INT32", "retention_token_range_starts retention_token_range_ends"),
    *_declare_lists("INT32", "retention_token_range_priorities retention_token_range_durations_ms"),
    *_declare_lists("INT32", "retention_decode_priority retention_decode_duration_ms", (1,)),
    *_declare_lists("STRING", "guided_decoding_guide_type guided_decoding_guide", (1,)),
    *_declare_lists("INT32", "lookahead_window_size lookahead_ngram_size", (1,)),
    *_declare_lists("INT32", "lookahead_verification_set_size", (1,)),
)

ENGINE_OUTPUTS: tuple[EngineTensor, ...] = (
    EngineTensor("output_ids", "INT32", (-1, -1)),
    EngineTensor("sequence_length", "INT32", (-1,)),
    EngineTensor("cum_log_probs", "FP32", (-1,)),
    EngineTensor("output_log_probs", "FP32", (-1, -1)),
    EngineTensor("context_logits", "FP32", (-1, -1)),
    EngineTensor("generation_logits", "FP32", (-1, -1, -1)),
    EngineTensor("context_phase_params", "UINT8", (-1,)),
    *_declare_batched("INT32", "batch_index sequence_index num_input_tokens num_output_tokens"),
    *_declare_batched("INT32", "kv_cache_alloc_new_blocks kv_cache_reused_blocks"),
    *_declare_batched("INT32", "kv_cache_alloc_total_blocks"),
    *_declare_batched("INT64", "arrival_time_ns first_scheduled_time_ns first_token_time_ns"),
    *_declare_batched("INT64", "last_token_time_ns"),
    EngineTensor("acceptance_rate", "FP32"),
    *_declare_batched("INT32", "total_accepted_draft_tokens total_draft_tokens"),
)
