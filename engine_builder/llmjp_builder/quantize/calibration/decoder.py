"""A decoder layer of Llama over one text, and the largest input of each of its parts.

Written out instead of taken from transformers: the builder then needs torch alone, and what is
recorded stands beside what is computed. The arithmetic and its order are those of
`LlamaDecoderLayer` with `attn_implementation="sdpa"` (transformers 4.57 to 5.23,
models/llama/modeling_llama.py), which is what modelopt calibrates, so on one machine every amax
is the same number, to the last bit.

A text is computed alone: no padding exists that could count, or change another text's numbers, and
no amax depends on what else is calibrated on. A batch would save little, since the matrix products
of a text of some hundred tokens already keep a processor busy.

Letters: t tokens of a text, d hidden size, n query heads, k key and value heads, h head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.convert.model_config import ModelConfig

KEYS = "self_attn.k"
VALUES = "self_attn.v"
"""Names for the contents of the KV cache, beside those of the linear layers."""


class AmaxRecorder:
    """The largest absolute value seen, by name. Numbers stay on their device until read."""

    def __init__(self) -> None:
        self._found: dict[str, torch.Tensor] = {}

    def record(self, tensor: torch.Tensor, *names: str) -> None:
        """Record a tensor as the input of all `names`."""
        low, high = torch.aminmax(tensor)
        largest = torch.maximum(-low, high)
        for name in names:
            known = self._found.get(name)
            self._found[name] = largest if known is None else torch.maximum(known, largest)

    def to_dict(self) -> dict[str, float]:
        """Return the numbers by name; NaN where a NaN was seen."""
        values = torch.stack(list(self._found.values())).abs().tolist()
        return dict(zip(self._found, values, strict=True))


@dataclass(frozen=True, slots=True)
class RotaryEmbedding:
    """RoPE's cosine and sine, [t, h], for positions from 0."""

    cosine_th: torch.Tensor
    sine_th: torch.Tensor

    @classmethod
    def compute(cls, config: ModelConfig, num_tokens: int, like: torch.Tensor) -> RotaryEmbedding:
        """Compute it for up to `num_tokens` tokens, in the element type and device of `like`."""
        half = torch.arange(0, config.head_size, 2, dtype=torch.float32) / config.head_size
        powers, scaling = config.rope_theta**half, config.scaled_rope
        if scaling is None:
            frequencies, factor = 1.0 / powers, 1.0
        else:
            scaled = scaling.compute_frequencies(powers.tolist(), config.rope_theta)
            frequencies, factor = torch.tensor(scaled), scaling.attention_factor
        frequencies = frequencies.to(like.device)
        positions = torch.arange(num_tokens, dtype=torch.float32, device=like.device)
        angles = positions[:, None] * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        cosine, sine = angles.cos() * factor, angles.sin() * factor
        return cls(cosine.to(like.dtype), sine.to(like.dtype))

    def apply(self, x_th: torch.Tensor) -> torch.Tensor:
        """Rotate [..., t, h]."""
        t, half = x_th.shape[-2], x_th.shape[-1] // 2
        turned = torch.cat((-x_th[..., half:], x_th[..., :half]), dim=-1)
        return x_th * self.cosine_th[:t] + turned * self.sine_th[:t]


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """The layer with these weights, by name within the layer (`mlp.up_proj`)."""

    config: ModelConfig
    weights: Mapping[str, torch.Tensor]

    def __call__(
        self, x_td: torch.Tensor, rotary: RotaryEmbedding, recorder: AmaxRecorder
    ) -> torch.Tensor:
        """Return the layer's output [t, d], recording the inputs of its parts."""
        x_td = x_td + self._attention(self._norm("input_layernorm", x_td), rotary, recorder)
        return x_td + self._mlp(self._norm("post_attention_layernorm", x_td), recorder)

    def _attention(
        self, x_td: torch.Tensor, rotary: RotaryEmbedding, recorder: AmaxRecorder
    ) -> torch.Tensor:
        queries, keys, values = (f"self_attn.{letter}_proj" for letter in "qkv")
        recorder.record(x_td, queries, keys, values)
        q_nth = rotary.apply(self._heads(queries, x_td))
        k_kth = rotary.apply(self._heads(keys, x_td))
        v_kth = self._heads(values, x_td)
        recorder.record(k_kth, KEYS)
        recorder.record(v_kth, VALUES)
        mixed_nth = functional.scaled_dot_product_attention(
            q_nth,
            k_kth,
            v_kth,
            is_causal=x_td.shape[0] > 1,
            scale=self.config.head_size**-0.5,
            enable_gqa=self.config.num_kv_heads != self.config.num_heads,
        )
        mixed = mixed_nth[0].transpose(0, 1).reshape(x_td.shape[0], -1)
        recorder.record(mixed, "self_attn.o_proj")
        return self._linear("self_attn.o_proj", mixed)

    def _mlp(self, x_td: torch.Tensor, recorder: AmaxRecorder) -> torch.Tensor:
        gate, up, down = (f"mlp.{name}_proj" for name in ("gate", "up", "down"))
        recorder.record(x_td, gate, up)
        gated = functional.silu(self._linear(gate, x_td)) * self._linear(up, x_td)
        recorder.record(gated, down)
        return self._linear(down, gated)

    def _heads(self, name: str, x_td: torch.Tensor) -> torch.Tensor:
        """Return [1, heads, t, h]; without a batch dimension torch takes a slower kernel."""
        y = self._linear(name, x_td)
        return y.view(1, x_td.shape[0], -1, self.config.head_size).transpose(1, 2)

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weights[name])

    def _norm(self, name: str, x_td: torch.Tensor) -> torch.Tensor:
        """Normalise by root mean square in float32, then scale in the element type of `x_td`."""
        wide = x_td.to(torch.float32)
        mean = wide.pow(2).mean(-1, keepdim=True)
        wide = wide * torch.rsqrt(mean + self.config.norm_epsilon)
        return self.weights[name] * wide.to(x_td.dtype)
