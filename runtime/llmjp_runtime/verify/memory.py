"""Peak memory of a verification, from shapes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_runtime.executor.torch.memory import require_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import LlamaConfig

    from llmjp_runtime.executor.torch.loader import WeightLoader

_F32 = 4
_HIDDEN_STATES = 8
"""[tokens, hidden] tensors at once: both models' states, halves of layers, inputs and outputs."""
POSITIONS = 32
"""Number of positions whose logits are computed at once."""
_LOGITS = 32
"""[POSITIONS, vocabulary] tensors at once, as measured: about ten, and what malloc keeps."""


def require_room(
    weights: WeightLoader,
    reference: LlamaConfig,
    prompt_lengths: Sequence[int],
    max_tokens: int,
) -> None:
    """Refuse what would not fit.

    Raises:
        NotEnoughMemory: with the numbers.
    """
    num_bytes = estimate_peak_bytes(weights, reference, prompt_lengths, max_tokens)
    advice = "give fewer or shorter prompts, or another device"
    require_memory("the verification", num_bytes, weights.device, advice)


def estimate_peak_bytes(
    weights: WeightLoader,
    reference: LlamaConfig,
    prompt_lengths: Sequence[int],
    max_tokens: int,
) -> int:
    """Add up one layer of each model and the keys and values of one, or both output layers.

    While the reference generates, it keeps keys and values of all its layers.
    """
    hidden, heads = reference.hidden_size, reference.num_attention_heads
    tokens = sum(prompt_lengths) + len(prompt_lengths) * (max_tokens - 1)
    longest = max(prompt_lengths) + max_tokens - 1
    queries, keys = heads * reference.head_dim, reference.num_key_value_heads * reference.head_dim
    inner = weights.checkpoint.config.intermediate_size
    table = reference.vocab_size * hidden
    layer = 2 * hidden * (queries + keys) + 3 * hidden * inner
    ours = (weights.count_bytes(range(1)) - weights.count_bytes(range(0))) // _F32
    within = 3 * heads * longest**2 + tokens * (5 * inner + 6 * queries)
    history = 2 * tokens * keys * (reference.num_hidden_layers if max_tokens > 1 else 1)
    at_layer = layer + ours + within + history
    at_head = 2 * table + _LOGITS * POSITIONS * reference.vocab_size
    num_bytes: int = _F32 * (_HIDDEN_STATES * tokens * hidden + max(at_layer, at_head))
    return num_bytes
