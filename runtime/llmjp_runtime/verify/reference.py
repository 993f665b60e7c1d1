"""The reference: transformers' own Llama in float32, one decoder layer at a time.

Decoder layers, rotary embedding and norms are transformers' modules with Hugging Face's tensors;
only reading, look-up and the last product are written here. The tokens of all texts lie behind
each other; attention runs text by text, so that no padding is needed. Shapes: T tokens of all
texts, N of one, S those that it sees, H hidden, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812

from llmjp_runtime.verify.reference_files import EMBEDDING, FINAL_NORM, LM_HEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import Cache
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

    from llmjp_runtime.verify.reference_files import ReferenceFiles


def new_history() -> Cache:
    """Return an empty cache for the keys and values of one text in one layer."""
    from transformers import DynamicCache

    return DynamicCache()


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceLayer:
    """One decoder layer of transformers, in halves."""

    layer: LlamaDecoderLayer
    rotary: LlamaRotaryEmbedding

    def attend(
        self, x: torch.Tensor, lengths: Sequence[int], histories: Sequence[Cache]
    ) -> torch.Tensor:
        """Return what attention adds to x.

        Args:
            x: [T, H].
            lengths: tokens of each text; their sum is T.
            histories: of each text: what goes before its tokens. They are added to it.
        """
        x = self.layer.input_layernorm(x)
        texts = zip(torch.split(x, list(lengths)), histories, strict=True)
        return torch.cat([self._attend_text(text, history) for text, history in texts])

    def _attend_text(self, x: torch.Tensor, history: Cache) -> torch.Tensor:
        """Return [N, H] for the tokens x [N, H] that follow `history`."""
        num_before = history.get_seq_length()
        positions = torch.arange(num_before, num_before + len(x), device=x.device)
        later = torch.ones(len(x), num_before + len(x), dtype=torch.bool, device=x.device)
        mask = torch.zeros(later.shape, device=x.device)
        mask = mask.masked_fill(later.triu(num_before + 1), -torch.inf)
        # By position: the fourth argument's name differs between versions of transformers.
        attended: tuple[torch.Tensor, Any] = self.layer.self_attn(
            x[None], self.rotary(x, positions[None]), mask[None, None], history
        )
        return attended[0][0]

    def feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the MLP adds to x [T, H]."""
        added: torch.Tensor = self.layer.mlp(self.layer.post_attention_layernorm(x))
        return added


@dataclass(frozen=True, eq=False)
class Reference:
    """The model; every method reads what it needs and keeps nothing."""

    files: ReferenceFiles
    device: torch.device

    def embed(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return [T, H], text by text."""
        table = self.files.read(EMBEDDING)
        ids = torch.tensor([i for text in texts for i in text])
        return table[ids].float().to(self.device)

    def layer(self, index: int) -> ReferenceLayer:
        """Read and widen one layer."""
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer

        with torch.device("meta"):
            # Its index is where its cache keeps keys and values: the first place of its own.
            layer = LlamaDecoderLayer(self.files.config, 0)
        names = layer.state_dict().keys()
        weights = {name: self._read_wide(f"model.layers.{index}.{name}") for name in names}
        layer.load_state_dict(weights, assign=True)
        return ReferenceLayer(layer.eval(), self._rotary)

    def head(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the way from [T, H] to logits [T, V]; it holds the output layer."""
        from transformers.models.llama.modeling_llama import LlamaRMSNorm

        config = self.files.config
        with torch.device("meta"):
            norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        norm.load_state_dict({"weight": self._read_wide(FINAL_NORM)}, assign=True)
        table = self._read_wide(EMBEDDING if config.tie_word_embeddings else LM_HEAD)
        return lambda x: F.linear(norm(x), table)

    @cached_property
    def _rotary(self) -> LlamaRotaryEmbedding:
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        return LlamaRotaryEmbedding(self.files.config).to(self.device)

    def _read_wide(self, name: str) -> torch.Tensor:
        return self.files.read(name).to(self.device, torch.float32)
