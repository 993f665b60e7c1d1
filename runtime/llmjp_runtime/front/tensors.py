"""The tensors of the models `llmjp` and `ensemble`, as Triton declares them.

Triton refuses what a model does not declare with words of its own, so both models declare every
tensor of NVIDIA's ensemble (NVIDIA/TensorRT-LLM,
triton_backend/all_models/inflight_batcher_llm/ensemble/config.pbtxt) besides ours; `request` then
refuses by name what cannot be done. Dims exclude the batch dimension, which is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DataType = Literal["STRING", "INT32", "INT64", "UINT64", "FP16", "FP32", "BOOL"]

MAX_BATCH_SIZE = 1
"""Rows of one request. Requests are batched in flight by the executor, not by Triton."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One declared input (all are optional for Triton) or output."""

    name: str
    data_type: DataType
    dims: tuple[int, ...] = (1,)
    """-1 is any length."""


OUR_INPUTS = (
    TensorSpec("messages", "STRING"),
    TensorSpec("input_ids", "INT32", (-1,)),
    TensorSpec("stop", "BOOL"),
    TensorSpec("ready", "BOOL"),
    TensorSpec("top_log_probs", "INT32"),
)
"""Beyond NVIDIA's: a conversation (JSON), a tokenised prompt, a cancellation, a question, and how
many log probabilities of each place."""

NVIDIA_INPUTS = (
    TensorSpec("text_input", "STRING"),
    TensorSpec("decoder_text_input", "STRING"),
    TensorSpec("max_tokens", "INT32"),
    TensorSpec("num_return_sequences", "INT32"),
    TensorSpec("bad_words", "STRING", (-1,)),
    TensorSpec("stop_words", "STRING", (-1,)),
    TensorSpec("exclude_input_in_output", "BOOL"),
    TensorSpec("end_id", "INT32"),
    TensorSpec("pad_id", "INT32"),
    TensorSpec("top_k", "INT32"),
    TensorSpec("top_p", "FP32"),
    TensorSpec("temperature", "FP32"),
    TensorSpec("length_penalty", "FP32"),
    TensorSpec("repetition_penalty", "FP32"),
    TensorSpec("min_tokens", "INT32"),
    TensorSpec("presence_penalty", "FP32"),
    TensorSpec("frequency_penalty", "FP32"),
    TensorSpec("seed", "UINT64"),
    TensorSpec("return_log_probs", "BOOL"),
    TensorSpec("return_context_logits", "BOOL"),
    TensorSpec("return_generation_logits", "BOOL"),
    TensorSpec("return_perf_metrics", "BOOL"),
    TensorSpec("return_num_input_tokens", "BOOL"),
    TensorSpec("return_num_output_tokens", "BOOL"),
    TensorSpec("beam_width", "INT32"),
    TensorSpec("stream", "BOOL"),
    TensorSpec("prompt_embedding_table", "FP16", (-1, -1)),
    TensorSpec("prompt_table_extra_id", "UINT64"),
    TensorSpec("prompt_vocab_size", "INT32"),
    TensorSpec("embedding_bias_words", "STRING", (-1,)),
    TensorSpec("embedding_bias_weights", "FP32", (-1,)),
    TensorSpec("lora_task_id", "UINT64"),
    TensorSpec("lora_weights", "FP16", (-1, -1)),
    TensorSpec("lora_config", "INT32", (-1, 3)),
    TensorSpec("guided_decoding_guide_type", "STRING"),
    TensorSpec("guided_decoding_guide", "STRING"),
)

INPUTS = (*OUR_INPUTS, *NVIDIA_INPUTS)

OUTPUTS = (
    TensorSpec("text_output", "STRING", (-1,)),
    TensorSpec("output_ids", "INT32", (-1,)),
    TensorSpec("finish_reason", "STRING"),
    TensorSpec("warnings", "STRING", (-1,)),
    TensorSpec("output_tokens", "STRING", (-1,)),
    TensorSpec("top_ids", "INT32", (-1, -1)),
    TensorSpec("top_tokens", "STRING", (-1, -1)),
    TensorSpec("top_log_probs", "FP32", (-1, -1)),
    TensorSpec("cum_log_probs", "FP32", (-1,)),
    TensorSpec("output_log_probs", "FP32", (-1, -1)),
    TensorSpec("context_logits", "FP32", (-1, -1)),
    TensorSpec("generation_logits", "FP32", (-1, -1, -1)),
    TensorSpec("batch_index", "INT32"),
    TensorSpec("sequence_index", "INT32"),
    TensorSpec("kv_cache_alloc_new_blocks", "INT32"),
    TensorSpec("kv_cache_reused_blocks", "INT32"),
    TensorSpec("kv_cache_alloc_total_blocks", "INT32"),
    TensorSpec("arrival_time_ns", "INT64"),
    TensorSpec("first_scheduled_time_ns", "INT64"),
    TensorSpec("first_token_time_ns", "INT64"),
    TensorSpec("last_token_time_ns", "INT64"),
    TensorSpec("acceptance_rate", "FP32"),
    TensorSpec("total_accepted_draft_tokens", "INT32"),
    TensorSpec("total_draft_tokens", "INT32"),
    TensorSpec("num_input_tokens", "INT32"),
    TensorSpec("num_output_tokens", "INT32"),
)
"""All that a response may carry; it has `text_output`, `output_ids` and what was requested."""
