"""The reference: a dense Llama in float32 over Hugging Face's tensors, one layer at a time.

Written out in the plainest way, and apart from the executor, so that the two share no mistake; the
tests hold it against transformers. The tokens of all texts lie behind each other, and attention
alone tells texts apart. Shapes: T tokens of all texts, N of one, S those that it sees, H hidden,
Q query heads, K key heads, D head size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812

from llmjp_runtime.verify.hf_tensors import EMBEDDING, FINAL_NORM, LM_HEAD, layer_shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llmjp_runtime.verify.hf_config import ReferenceConfig
    from llmjp_runtime.verify.hf_tensors import ReferenceFiles


@dataclass(slots=True, eq=False)
class History:
    """Keys and values of one text in one layer; grows."""

    keys: torch.Tensor | None = None
    """[S, K, D]; so are the values."""
    values: torch.Tensor | None = None

    def extend(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append [N, K, D]; all of them so far."""
        self.keys = k if self.keys is None else torch.cat((self.keys, k))
        self.values = v if self.values is None else torch.cat((self.values, v))
        return self.keys, self.values


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceLayer:
    """One decoder layer."""

    config: ReferenceConfig
    weights: Mapping[str, torch.Tensor]
    """float32, by name within the layer."""

    def attend(
        self, x: torch.Tensor, lengths: Sequence[int], histories: Sequence[History]
    ) -> torch.Tensor:
        """What attention adds to x.

        Args:
            x: [T, H].
            lengths: tokens of each text; their sum is T.
            histories: of each text: what goes before its tokens. They are added to it.
        """
        x = _norm(x, self.weights["input_layernorm.weight"], self.config.rms_norm_eps)
        packed = (
            self._linear(f"self_attn.{name}_proj", x).view(len(x), -1, self.config.head_dim)
            for name in "qkv"
        )
        texts = zip(*(torch.split(x, list(lengths)) for x in packed), histories, strict=True)
        mixed = torch.cat([self._mixed(q, k, v, history) for q, k, v, history in texts])
        return self._linear("self_attn.o_proj", mixed.flatten(1))

    def _mixed(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, history: History
    ) -> torch.Tensor:
        """[N, Q, D]: the values that each token of one text looks at."""
        config = self.config
        num_before = 0 if history.keys is None else len(history.keys)
        k, v = history.extend(_rotated(k, num_before, config), v)
        groups = config.num_attention_heads // config.num_key_value_heads
        k, v = (kept.repeat_interleave(groups, dim=1) for kept in (k, v))  # [S, Q, D]
        scores = torch.einsum("nqd,sqd->qns", _rotated(q, num_before, config), k)
        seen = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).tril(num_before)
        scores = (scores / config.head_dim**0.5).masked_fill(~seen, -torch.inf)
        return torch.einsum("qns,sqd->nqd", scores.softmax(-1), v)

    def feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        """[T, H]: what the MLP adds to x [T, H]."""
        x = _norm(x, self.weights["post_attention_layernorm.weight"], self.config.rms_norm_eps)
        gate, up = self._linear("mlp.gate_proj", x), self._linear("mlp.up_proj", x)
        return self._linear("mlp.down_proj", gate * gate.sigmoid() * up)

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weights[f"{name}.weight"])


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The model; every method reads what it needs and keeps nothing."""

    files: ReferenceFiles
    device: torch.device

    def embed(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """[T, H], text by text."""
        table = self.files.read(EMBEDDING)
        ids = torch.tensor([i for text in texts for i in text])
        return table[ids].float().to(self.device)

    def layer(self, index: int) -> ReferenceLayer:
        """One layer, read and widened."""
        names = layer_shapes(self.files.config)
        return ReferenceLayer(
            self.files.config,
            {name: self._wide(f"model.layers.{index}.{name}") for name in names},
        )

    def head(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """From [T, H] to logits [T, V]; holds the output layer."""
        config = self.files.config
        norm = self._wide(FINAL_NORM)
        table = self._wide(EMBEDDING if config.tie_word_embeddings else LM_HEAD)
        return lambda x: F.linear(_norm(x, norm, config.rms_norm_eps), table)

    def _wide(self, name: str) -> torch.Tensor:
        return self.files.read(name).to(self.device, torch.float32)


def _norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def _rotated(x: torch.Tensor, first: int, config: ReferenceConfig) -> torch.Tensor:
    """[N, heads, D] at positions from `first`: element i turns with i + D / 2."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    positions = torch.arange(first, first + len(x), dtype=torch.float32)
    angles = torch.outer(positions, 1.0 / config.rope_theta**half)[:, None].to(x.device)
    cos, sin = angles.cos(), angles.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
