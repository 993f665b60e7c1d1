"""Weights read from the source: a decoder layer on a device, or rows of the embedding table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from llmjp_builder.convert.families.llama import EMBEDDING, LINEAR
from llmjp_builder.threads import run_in_threads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmjp_builder.convert.header import TensorInfo
    from llmjp_builder.convert.source_files import SourceFiles

STORED = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
"""Element types of the checkpoints that are converted."""

NORMS = ("input_layernorm", "post_attention_layernorm")


class LayerWeights:
    """A checkpoint's weights in one element type; its shapes were checked before."""

    def __init__(
        self,
        tensors: Mapping[str, TensorInfo],
        sources: SourceFiles,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._tensors, self._sources = tensors, sources
        self._dtype, self._device = dtype, device

    def read_layer(self, index: int) -> dict[str, torch.Tensor]:
        """Read a decoder layer's weights; return them by name within the layer."""
        names = (*LINEAR, *NORMS)
        tensors = run_in_threads(
            self._read_tensor, (_get_tensor_name(index, name) for name in names)
        )
        return dict(zip(names, tensors, strict=True))

    def read_embeddings(self, ids: Sequence[int]) -> torch.Tensor:
        """Read only the rows for `ids` of the embedding table; return [len(ids), d] on the host."""
        info = self._tensors[EMBEDDING]
        size = info.size // info.shape[0]
        different = sorted(set(ids))
        rows = torch.stack([self._read_part(info, i * size, size) for i in different])
        place = {token: row for row, token in enumerate(different)}
        return rows[[place[token] for token in ids]].to(self._dtype)

    def _read_tensor(self, name: str) -> torch.Tensor:
        info = self._tensors[name]
        return self._read_part(info, 0, info.size).view(info.shape).to(self._device, self._dtype)

    def _read_part(self, info: TensorInfo, begin: int, size: int) -> torch.Tensor:
        return torch.from_numpy(self._sources.read(info, begin, size)).view(STORED[info.dtype])


def _get_tensor_name(index: int, name: str) -> str:
    return f"model.layers.{index}.{name}.weight"
