"""KV cache sizes: bytes per token, and the tokens that fit beside the weights. Pure.

The estimate: 0.9 x (GPU - weights - 4 GiB). 0.9 is the share that TensorRT-LLM's
`kv_cache_free_gpu_mem_fraction` takes by default of what is free once the engine is loaded; 4 GiB
stand for activations, NCCL's buffers and logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmjp_builder.convert.layout import Layout
    from llmjp_builder.convert.model_config import ModelConfig

RESERVE_BYTES = 4 << 30

_KEY_AND_VALUE = 2
_FP8_BYTES, _HALF_BYTES = 1, 2


def compute_bytes_per_token(config: ModelConfig, layout: Layout) -> int:
    """Return the bytes of one token's keys and values in the whole model, no head twice."""
    heads = config.num_layers * config.num_kv_heads
    return _KEY_AND_VALUE * heads * config.head_size * _get_item_bytes(layout)


def compute_bytes_per_token_on_rank(config: ModelConfig, layout: Layout, stage: int) -> int:
    """Return the bytes of one token's keys and values on each rank of a pipeline stage.

    With fewer key-value heads than ranks, every rank holds a copy of one head.
    """
    heads = max(1, config.num_kv_heads // layout.tensor_parallel)
    layers = len(layout.select_layers(stage, config.num_layers))
    return _KEY_AND_VALUE * layers * heads * config.head_size * _get_item_bytes(layout)


def count_tokens_that_fit(gpu_bytes: int, weights_bytes: int, token_bytes: int) -> int:
    """Return the tokens that fit on one GPU; 0 where not even weights and reserve do."""
    free = max(0, gpu_bytes - weights_bytes - RESERVE_BYTES)
    return free * 9 // 10 // token_bytes


def _get_item_bytes(layout: Layout) -> int:
    return _FP8_BYTES if layout.kv_cache == "fp8" else _HALF_BYTES
