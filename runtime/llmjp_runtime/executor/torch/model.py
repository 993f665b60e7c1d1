"""A Llama over all ranks of a TensorRT-LLM checkpoint, on one device.

Shapes: T tokens of a step, H hidden, Q query heads and K key heads of all ranks, G = Q / K, D head
size, I intermediate, V vocabulary, B decoding requests, S cached length, P ids of a prompt's chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812

from llmjp_runtime.executor.torch.batch import PrefillChunk, build_batch
from llmjp_runtime.executor.torch.kv_cache import KVCache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmjp_runtime.executor.torch.batch import Batch, ChunkAttention
    from llmjp_runtime.executor.torch.config import CheckpointConfig
    from llmjp_runtime.executor.torch.fp8 import Fp8Linear
    from llmjp_runtime.executor.torch.kv_cache import LayerCache


Rotary = tuple[torch.Tensor, torch.Tensor]
"""Cosines and signed sines of a step's tokens, [T, 1, D] each."""


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A linear layer, [T, in] to [T, out]; column-parallel ranks are stacked in one weight."""

    weight: torch.Tensor
    """[out, in]"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        return F.linear(x, self.weight)


@dataclass(frozen=True, slots=True, eq=False)
class RowParallel:
    """A linear layer, [T, in] to [T, out], as a sum: each rank takes its part of x."""

    ranks: tuple[Linear | Fp8Linear, ...]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Sum in rank order, rounded to x's dtype after each, as an all-reduce would."""
        parts = x.chunk(len(self.ranks), dim=-1)
        return reduce(add, (rank(part) for rank, part in zip(self.ranks, parts, strict=True)))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Layer:
    """One decoder layer's weights."""

    input_norm: torch.Tensor
    """[H]"""
    qkv: Linear | Fp8Linear
    """[(Q + 2K) * D, H]: the queries of all ranks, then their keys, then their values."""
    dense: RowParallel
    post_norm: torch.Tensor
    """[H]"""
    gate_up: Linear | Fp8Linear
    """[2I, H]: `fc` (which is activated) of all ranks, then `gate`."""
    down: RowParallel
    kv_scale: float | None = None
    """None where keys and values are cached in the dtype that is computed in."""

    def attend(
        self,
        x: torch.Tensor,
        batch: Batch,
        cache: LayerCache,
        *,
        rotary: Rotary,
        config: CheckpointConfig,
    ) -> torch.Tensor:
        """Return what attention adds to x [T, H]; write its keys and values to the cache."""
        q, k, v = self._project_qkv(normalize(x, self.input_norm, config), rotary, config)
        cache.write(batch.cells, k, v)
        return self.dense(_attend(q, cache, batch))

    def feed_forward(self, x: torch.Tensor, config: CheckpointConfig) -> torch.Tensor:
        """Return what the MLP adds to x [T, H]."""
        gate, up = self.gate_up(normalize(x, self.post_norm, config)).chunk(2, dim=-1)  # [T, I]
        return self.down(F.silu(gate) * up)

    def _project_qkv(
        self, x: torch.Tensor, rotary: Rotary, config: CheckpointConfig
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries [T, Q, D], keys and values [T, K, D]; the first two are rotated."""
        num_q, num_k = config.num_attention_heads, config.tp_size * config.kv_heads_per_rank
        heads = self.qkv(x).view(len(x), num_q + 2 * num_k, config.head_size)
        qk = _rotate(heads[:, : num_q + num_k], *rotary)
        return qk[:, :num_q], qk[:, num_q:], heads[:, num_q + num_k :]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ParallelLlama:
    """The model; holds no state between calls (that is the cache's)."""

    config: CheckpointConfig
    embedding: torch.Tensor
    """[>= V, H]"""
    layers: tuple[Layer, ...]
    """The layers of all pipeline stages, in turn."""
    final_norm: torch.Tensor
    """[H]"""
    lm_head: Linear
    """[V, H]: all ranks' rows without the padding."""
    rotary: torch.Tensor
    """[2, max_position_embeddings, 1, D]: cosines, and sines signed for `_rotate`."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype to compute in."""
        return self.embedding.dtype

    @property
    def device(self) -> torch.device:
        """Where all weights are."""
        return self.embedding.device

    def allocate_cache(self, *, num_slots: int, max_length: int) -> KVCache:
        """Allocate an empty cache that fits this model.

        Raises:
            NotEnoughMemory: it does not fit the device.
        """
        return KVCache.allocate(
            self.config,
            num_slots=num_slots,
            max_length=max_length,
            dtype=self.dtype,
            device=self.device,
        )

    @torch.inference_mode()
    def compute_logits(self, input_ids: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Return float32 [n, V]: for each of n ids, the logits of the next one."""
        ids = input_ids.tolist() if isinstance(input_ids, torch.Tensor) else list(input_ids)
        cache = self.allocate_cache(num_slots=1, max_length=len(ids))
        batch = build_batch(
            [], [PrefillChunk(slot=0, start=0, ids=ids, needs_logits=True)], cache, self.dtype
        )
        return self._compute_logits(self._run_layers(batch, cache))

    @torch.inference_mode()
    def forward(self, batch: Batch, cache: KVCache) -> torch.Tensor:
        """Return float32 [outputs of the batch, V]; write ids, keys and values to `cache`."""
        x = self._run_layers(batch, cache)
        return self._compute_logits(x if batch.outputs is None else x[batch.outputs])

    def _compute_logits(self, x: torch.Tensor) -> torch.Tensor:
        return self.lm_head(normalize(x, self.final_norm, self.config)).float()

    def _run_layers(self, batch: Batch, cache: KVCache) -> torch.Tensor:
        """Return [T, H], before the last norm."""
        rotary = select_rotary(self.rotary, batch)
        cache.ids.index_copy_(0, batch.cells, batch.input_ids)
        x = F.embedding(batch.input_ids, self.embedding)
        for index, layer in enumerate(self.layers):
            cached = cache.view_layer(index, layer.kv_scale)
            x = x + layer.attend(x, batch, cached, rotary=rotary, config=self.config)
            x = x + layer.feed_forward(x, self.config)
        return x


def normalize(x: torch.Tensor, weight: torch.Tensor, config: CheckpointConfig) -> torch.Tensor:
    """Return RMSNorm in float32, rounded before the weight, as transformers' LlamaRMSNorm."""
    normed = F.rms_norm(x.float(), (x.shape[-1],), eps=config.norm_epsilon)
    return normed.to(x.dtype) * weight


def build_rotary_table(config: CheckpointConfig, dtype: torch.dtype) -> torch.Tensor:
    """Return [2, max_position_embeddings, 1, D] for `_rotate`, on the CPU; angles in float32."""
    half = torch.arange(0, config.head_size, 2, dtype=torch.int64).float() / config.head_size
    powers, scaling = config.rotary_base**half, config.rotary_scaling
    if scaling is None:
        inverse, factor = 1.0 / powers, 1.0
    else:
        scaled = scaling.compute_frequencies(powers.tolist(), config.rotary_base)
        inverse, factor = torch.tensor(scaled), scaling.attention_factor
    angles = torch.outer(torch.arange(config.max_position_embeddings).float(), inverse)
    cos, sin = angles.cos() * factor, angles.sin() * factor
    table = torch.stack((torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)))
    return table.to(dtype).unsqueeze(2)


def select_rotary(table: torch.Tensor, batch: Batch) -> Rotary:
    """Return the batch's rows of a `build_rotary_table`."""
    cos, sin = table.index_select(1, batch.positions).unbind(0)
    return cos, sin


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate x [T, heads, D], gpt_neox style: element i pairs with i + D / 2."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)


def _attend(q: torch.Tensor, cache: LayerCache, batch: Batch) -> torch.Tensor:
    """Return [T, Q * D] of q [T, Q, D] over one layer's keys and values."""
    num_tokens, num_decodes, width = len(q), batch.num_decodes, q.shape[1] * q.shape[2]
    q = q.view(num_tokens, cache.keys.shape[1], -1, q.shape[2])  # [T, K, G, D]
    parts = [_attend_chunk(q[chunk.rows], cache, chunk) for chunk in batch.chunks]
    if num_decodes:
        cached = cache.read_slots(num_decodes, batch.slot_length, batch.kv_length, q.dtype)
        k, v = (kept.transpose(1, 2) for kept in cached)  # [B, K, S, D]
        # The G queries that share a key stand where a sequence's queries would.
        decoded = F.scaled_dot_product_attention(q[:num_decodes], k, v, batch.mask)
        parts.insert(0, decoded)
    mixed = parts[0] if len(parts) == 1 else torch.cat(parts)
    return mixed.reshape(num_tokens, width)


def _attend_chunk(q: torch.Tensor, cache: LayerCache, chunk: ChunkAttention) -> torch.Tensor:
    """Return [P, K, G, D] of q [P, K, G, D], one prompt's chunk."""
    q = q.permute(1, 2, 0, 3)  # [K, G, P, D]
    k, v = (
        kept.transpose(0, 1).unsqueeze(1).expand(-1, q.shape[1], -1, -1)
        for kept in cache.read(chunk.cells, q.dtype)
    )  # [K, G, S, D]
    mixed = F.scaled_dot_product_attention(q, k, v, chunk.mask, is_causal=chunk.mask is None)
    return mixed.permute(2, 0, 1, 3)
