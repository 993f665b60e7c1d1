"""Loads rank files into a `ParallelLlama`: each tensor goes straight to its place on the device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from llmjp_runtime.errors import ArtefactInvalid, OptionInvalid
from llmjp_runtime.executor.torch.checkpoint import (
    EMBEDDING,
    FINAL_NORM,
    LINEARS,
    LM_HEAD,
    ShardedCheckpoint,
    list_layer_shapes,
    name_layer_tensor,
    open_tensors,
)
from llmjp_runtime.executor.torch.fp8 import Fp8Linear, choose_storage_dtype
from llmjp_runtime.executor.torch.memory import require_memory
from llmjp_runtime.executor.torch.model import (
    Layer,
    Linear,
    ParallelLlama,
    RowParallel,
    build_rotary_table,
)
from llmjp_runtime.executor.torch.scales import read_scales

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from llmjp_runtime.executor.torch.config import CheckpointConfig
    from llmjp_runtime.executor.torch.scales import LayerScales

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    folder: Path, *, device: torch.device | str = "auto", compute_dtype: str = "auto"
) -> ParallelLlama:
    """Load all ranks of a checkpoint onto one device, one stored tensor in flight at a time.

    Args:
        folder: config.json and rank{N}.safetensors.
        device: `auto` is CUDA where there is one.
        compute_dtype: float32, bfloat16, float16, or `auto`: float32 on the CPU, else the
            checkpoint's. FP8 layers stay FP8, with this dtype around them.

    Raises:
        ArtefactInvalid: something is missing, damaged or inconsistent; nothing was allocated before
            names, shapes and dtypes were checked.
        UnsupportedModel: a feature that this executor does not have.
        OptionInvalid: no such device here, or an unknown `compute_dtype`.
        NotEnoughMemory: the weights do not fit.
    """
    checkpoint = ShardedCheckpoint.open(folder)
    config, place = checkpoint.config, resolve_device(device)
    if place.type == "cuda":
        # cuDNN's attention was 13 to 25 times slower in bfloat16, because key lengths differ at
        # each step (measured with torch 2.11 on an H200).
        torch.backends.cuda.enable_cudnn_sdp(False)
    weights = WeightLoader(checkpoint, resolve_dtype(compute_dtype, config, place), place)
    num_bytes = weights.count_bytes(range(config.num_hidden_layers))
    require_memory(f"{folder}: weights", num_bytes, place, "use a smaller dtype or a larger device")
    return ParallelLlama(
        config=config,
        embedding=weights.load_embedding(),
        layers=tuple(weights.load_layer(index) for index in range(config.num_hidden_layers)),
        final_norm=weights.load_final_norm(),
        lm_head=weights.load_lm_head(),
        rotary=build_rotary_table(config, weights.dtype).to(place),
    )


def resolve_device(device: torch.device | str) -> torch.device:
    """Return the device meant by `device`; `auto` prefers CUDA.

    Raises:
        OptionInvalid: it is not there, or not a device at all.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as exc:
        raise OptionInvalid(f"device {device!r} is unknown: use auto, cpu or cuda") from exc
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise OptionInvalid(
            f"device {device} is not there: {torch.cuda.device_count()} CUDA devices found"
        )
    return place


def resolve_dtype(name: str, config: CheckpointConfig, device: torch.device) -> torch.dtype:
    """Return the dtype to compute in.

    Raises:
        OptionInvalid: not a dtype for computing.
    """
    if name == "auto":
        name = "float32" if device.type == "cpu" else config.dtype
    if name not in _DTYPES:
        raise OptionInvalid(f"compute_dtype is {name!r}, expected auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]


def count_parameters(config: CheckpointConfig) -> int:
    """Count the elements that `load_model` allocates, duplicated key heads each time."""
    linears, rest = _count_layer_parameters(config)
    tables = 2 * config.vocab_size * config.hidden_size + config.hidden_size
    return config.num_hidden_layers * (linears + rest) + tables


def _count_layer_parameters(config: CheckpointConfig) -> tuple[int, int]:
    """Return the elements of one layer over all ranks: in linear parts, and elsewhere."""
    shapes = list_layer_shapes(config)
    linears = sum(config.tp_size * math.prod(shapes[name]) for name in LINEARS)
    return linears, 2 * config.hidden_size


@dataclass(frozen=True, slots=True, eq=False)
class WeightLoader:
    """The parts of a model, each read from the rank files when it is needed.

    Every method allocates, and raises `ArtefactInvalid` where a file is damaged or ranks disagree.
    """

    checkpoint: ShardedCheckpoint
    dtype: torch.dtype
    """The dtype of everything that is not FP8."""
    device: torch.device

    def count_bytes(self, layers: range) -> int:
        """Return the size of these layers, the embedding and lm_head."""
        config = self.checkpoint.config
        linears, rest = _count_layer_parameters(config)
        stored = choose_storage_dtype(self.device) if config.fp8_linears else self.dtype
        tables = (2 * config.vocab_size + 1) * config.hidden_size
        wide = (tables + len(layers) * rest) * self.dtype.itemsize
        return wide + len(layers) * linears * stored.itemsize

    def load_embedding(self) -> torch.Tensor:
        """Load the table [V, H]."""
        config = self.checkpoint.config
        table = self._allocate(config.vocab_size, config.hidden_size)
        for tp_rank in range(config.tp_size):
            if not config.use_parallel_embedding:
                target = table
            elif config.embedding_sharding_dim == 0:
                target = table[self._slice_vocab_rows(tp_rank)]
            else:
                target = table.chunk(config.tp_size, dim=1)[tp_rank]
            copied = tp_rank > 0 and not config.use_parallel_embedding
            self._fill(0, tp_rank, [_Destination(EMBEDDING, (target,), filled=copied)])
        return table

    def load_layer(self, index: int) -> Layer:
        """Load a decoder layer, counted over the whole model."""
        config = self.checkpoint.config
        pp_rank, local = self.checkpoint.locate_layer(index)
        layer = self._allocate_layer(read_scales(self.checkpoint, index))
        for tp_rank in range(config.tp_size):
            places = [
                _Destination(
                    name_layer_tensor(local, f"{tensor}.weight"),
                    targets,
                    filled=tp_rank > 0 and tensor.endswith("layernorm"),
                )
                for tensor, targets in _map_layer_targets(config, layer, tp_rank).items()
            ]
            self._fill(pp_rank, tp_rank, places)
        return layer

    def load_final_norm(self) -> torch.Tensor:
        """Load the last norm's weight [H]."""
        config = self.checkpoint.config
        norm = self._allocate(config.hidden_size)
        for tp_rank in range(config.tp_size):
            place = _Destination(FINAL_NORM, (norm,), filled=tp_rank > 0)
            self._fill(config.pp_size - 1, tp_rank, [place])
        return norm

    def load_lm_head(self) -> Linear:
        """Load the output layer [V, H], without the padding."""
        config = self.checkpoint.config
        table = self._allocate(config.vocab_size, config.hidden_size)
        for tp_rank in range(config.tp_size):
            place = _Destination(LM_HEAD, (table[self._slice_vocab_rows(tp_rank)],))
            self._fill(config.pp_size - 1, tp_rank, [place])
        return Linear(table)

    def _slice_vocab_rows(self, tp_rank: int) -> slice:
        rows = self.checkpoint.config.vocab_rows_per_rank
        return slice(tp_rank * rows, (tp_rank + 1) * rows)

    def _allocate(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def _allocate_layer(self, scales: LayerScales) -> Layer:
        """Allocate a layer; its weights are not filled."""
        config = self.checkpoint.config
        hidden, inner, tp = config.hidden_size, config.intermediate_size, config.tp_size
        queries = config.num_attention_heads * config.head_size
        keys = tp * config.kv_heads_per_rank * config.head_size

        def allocate_linear(name: str, outputs: int, inputs: int) -> Linear | Fp8Linear:
            if (found := scales.linears.get(name)) is None:
                return Linear(self._allocate(outputs, inputs))
            dtype = choose_storage_dtype(self.device)
            weight = torch.empty((outputs, inputs), dtype=dtype, device=self.device)
            return Fp8Linear(weight, found)

        def allocate_row_parallel(name: str, inputs: int) -> RowParallel:
            return RowParallel(
                tuple(allocate_linear(name, hidden, inputs // tp) for _ in range(tp))
            )

        return Layer(
            input_norm=self._allocate(hidden),
            qkv=allocate_linear("attention.qkv", queries + 2 * keys, hidden),
            dense=allocate_row_parallel("attention.dense", queries),
            post_norm=self._allocate(hidden),
            gate_up=allocate_linear("mlp.fc", 2 * inner, hidden),
            down=allocate_row_parallel("mlp.proj", inner),
            kv_scale=scales.kv_cache,
        )

    def _fill(self, pp_rank: int, tp_rank: int, places: Iterable[_Destination]) -> None:
        path = self.checkpoint.rank_path(pp_rank, tp_rank)
        with open_tensors(path) as tensors:
            for place in places:
                if not place.fill(tensors.get_tensor(place.name)):
                    raise ArtefactInvalid(
                        f"{path}: {place.name} is replicated, but differs from the first rank's"
                    )


@dataclass(frozen=True, slots=True, eq=False)
class _Destination:
    """The tensors that a stored tensor's rows fill in turn; rows left over are padding."""

    name: str
    targets: tuple[torch.Tensor, ...]
    filled: bool = False
    """Another rank has brought the same tensor already."""

    def fill(self, stored: torch.Tensor) -> bool:
        """Copy (or compare, where filled); whether all is well."""
        if self.filled:
            return _is_equal(self.targets[0], stored)
        first = 0
        for target in self.targets:
            target.copy_(stored[first : first + len(target)])
            first += len(target)
        return True


def _is_equal(filled: torch.Tensor, stored: torch.Tensor) -> bool:
    """Return whether copying would change nothing; compare in blocks, never copying a table."""
    pairs = zip(torch.split(filled, 1024), torch.split(stored, 1024), strict=True)
    return all(torch.equal(part, new.to(part)) for part, new in pairs)


def _map_layer_targets(
    config: CheckpointConfig, layer: Layer, tp_rank: int
) -> dict[str, tuple[torch.Tensor, ...]]:
    """Stack column-parallel ranks in one weight; give each row-parallel rank its own."""
    queries = config.heads_per_rank * config.head_size
    keys = config.kv_heads_per_rank * config.head_size
    tp = config.tp_size
    q, k, v = torch.split(layer.qkv.weight, [tp * queries, tp * keys, tp * keys])
    gate, up = layer.gate_up.weight.chunk(2)
    return {
        "input_layernorm": (layer.input_norm,),
        "attention.qkv": tuple(part.chunk(tp)[tp_rank] for part in (q, k, v)),
        "attention.dense": (layer.dense.ranks[tp_rank].weight,),
        "post_layernorm": (layer.post_norm,),
        "mlp.fc": (gate.chunk(tp)[tp_rank],),
        "mlp.gate": (up.chunk(tp)[tp_rank],),
        "mlp.proj": (layer.down.ranks[tp_rank].weight,),
    }
