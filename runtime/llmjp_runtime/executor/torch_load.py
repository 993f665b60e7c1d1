"""From rank files to a `ParallelLlama`: each tensor goes straight to its place on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from llmjp_runtime.errors import ArtefactInvalid, OptionInvalid
from llmjp_runtime.executor.torch_checkpoint import (
    EMBEDDING,
    FINAL_NORM,
    LM_HEAD,
    Checkpoint,
    layer_name,
    open_tensors,
)
from llmjp_runtime.executor.torch_memory import require_memory
from llmjp_runtime.executor.torch_model import (
    Layer,
    Linear,
    ParallelLlama,
    RowParallel,
    rotary_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmjp_runtime.executor.torch_config import CheckpointConfig

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    folder: Path, *, device: torch.device | str = "auto", compute_dtype: str = "auto"
) -> ParallelLlama:
    """All ranks of a checkpoint on one device, one stored tensor in flight at a time.

    Args:
        folder: config.json and rank{N}.safetensors.
        device: `auto` is CUDA where there is one.
        compute_dtype: float32, bfloat16, float16, or `auto`: float32 on the CPU, else the
            checkpoint's.

    Raises:
        ArtefactInvalid: something is missing, damaged or inconsistent; nothing was allocated before
            names, shapes and dtypes were checked.
        UnsupportedModel: a feature that this executor does not have.
        OptionInvalid: no such device here, or an unknown `compute_dtype`.
        NotEnoughMemory: the weights do not fit.
    """
    checkpoint = Checkpoint.open(folder)
    place = resolve_device(device)
    dtype = resolve_dtype(compute_dtype, checkpoint.config, place)
    num_bytes = num_parameters(checkpoint.config) * dtype.itemsize
    require_memory(f"{folder}: weights", num_bytes, place, "use a smaller dtype or a larger device")
    model = _empty(checkpoint.config, dtype, place)
    _fill(model, checkpoint)
    return model


def resolve_device(device: torch.device | str) -> torch.device:
    """The device meant by `device`; `auto` prefers CUDA.

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
            f"device {device} asked for, {torch.cuda.device_count()} CUDA devices found"
        )
    return place


def resolve_dtype(name: str, config: CheckpointConfig, device: torch.device) -> torch.dtype:
    """The dtype to compute in.

    Raises:
        OptionInvalid: not a dtype for computing.
    """
    if name == "auto":
        name = "float32" if device.type == "cpu" else config.dtype
    if name not in _DTYPES:
        raise OptionInvalid(f"compute_dtype is {name!r}, expected auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]


def num_parameters(config: CheckpointConfig) -> int:
    """Elements that `load_model` allocates (key heads duplicated over ranks count each time)."""
    return sum(tensor.numel() for tensor in _tensors(_empty(config, torch.float32, "meta")))


def _tensors(model: ParallelLlama) -> Iterator[torch.Tensor]:
    yield from (model.embedding, model.final_norm, model.lm_head.weight)
    for layer in model.layers:
        yield from (layer.input_norm, layer.post_norm, layer.qkv.weight, layer.gate_up.weight)
        yield from (rank.weight for part in (layer.dense, layer.down) for rank in part.ranks)


def _empty(
    config: CheckpointConfig, dtype: torch.dtype, device: torch.device | str
) -> ParallelLlama:
    """The model with its weights allocated, not filled."""
    hidden, tp = config.hidden_size, config.tp_size
    queries = config.num_attention_heads * config.head_size
    keys = tp * config.kv_heads_per_rank * config.head_size

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    def row_parallel(width: int) -> RowParallel:
        return RowParallel(tuple(Linear(empty(hidden, width // tp)) for _ in range(tp)))

    return ParallelLlama(
        config=config,
        embedding=empty(config.vocab_size, hidden),
        layers=tuple(
            Layer(
                input_norm=empty(hidden),
                qkv=Linear(empty(queries + 2 * keys, hidden)),
                dense=row_parallel(queries),
                post_norm=empty(hidden),
                gate_up=Linear(empty(2 * config.intermediate_size, hidden)),
                down=row_parallel(config.intermediate_size),
            )
            for _ in range(config.num_hidden_layers)
        ),
        final_norm=empty(hidden),
        lm_head=Linear(empty(config.vocab_size, hidden)),
        rotary=rotary_table(config, dtype).to(device),
    )


def _fill(model: ParallelLlama, checkpoint: Checkpoint) -> None:
    config, first_layer = model.config, 0
    for pp_rank, num_layers in enumerate(checkpoint.layers_per_stage):
        stage = model.layers[first_layer : first_layer + num_layers]
        first_layer += num_layers
        for tp_rank in range(config.tp_size):
            path = checkpoint.rank_path(pp_rank, tp_rank)
            with open_tensors(path) as tensors:
                for place in _places(model, stage, pp_rank, tp_rank):
                    if not place.take(tensors.get_tensor(place.name)):
                        raise ArtefactInvalid(
                            f"{path}: {place.name} is replicated, but differs from the first rank's"
                        )


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where a stored tensor goes: its rows fill the targets in turn; rows left over are padding."""

    name: str
    targets: tuple[torch.Tensor, ...]
    filled: bool = False
    """Whether another rank has brought the same tensor already."""

    def take(self, stored: torch.Tensor) -> bool:
        """Copy (or compare, where filled); whether all is well."""
        if self.filled:
            return torch.equal(self.targets[0], stored.to(self.targets[0]))
        first = 0
        for target in self.targets:
            target.copy_(stored[first : first + len(target)])
            first += len(target)
        return True


def _places(
    model: ParallelLlama, stage: tuple[Layer, ...], pp_rank: int, tp_rank: int
) -> Iterator[_Place]:
    """A place for every tensor of one rank."""
    config = model.config
    for index, layer in enumerate(stage):
        for tensor, targets in _layer_targets(config, layer, tp_rank).items():
            copied = tp_rank > 0 and tensor.endswith("layernorm")
            yield _Place(layer_name(index, tensor), targets, filled=copied)
    rows = slice(tp_rank * config.vocab_rows_per_rank, (tp_rank + 1) * config.vocab_rows_per_rank)
    if pp_rank == 0:
        if not config.use_parallel_embedding:
            target = model.embedding
        elif config.embedding_sharding_dim == 0:
            target = model.embedding[rows]
        else:
            target = model.embedding.chunk(config.tp_size, dim=1)[tp_rank]
        copied = tp_rank > 0 and not config.use_parallel_embedding
        yield _Place(EMBEDDING, (target,), filled=copied)
    if pp_rank == config.pp_size - 1:
        yield _Place(FINAL_NORM, (model.final_norm,), filled=tp_rank > 0)
        yield _Place(LM_HEAD, (model.lm_head.weight[rows],))


def _layer_targets(
    config: CheckpointConfig, layer: Layer, tp_rank: int
) -> dict[str, tuple[torch.Tensor, ...]]:
    """Column-parallel ranks go below each other, row-parallel ones each to their own weight."""
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
