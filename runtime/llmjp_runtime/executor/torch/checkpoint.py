"""The rank files of a TensorRT-LLM checkpoint: what each must hold, checked before any is read.

Names and shapes as TensorRT-LLM writes them (models/modeling_utils.py, models/llama/model.py);
rank = pp_rank * tp_size + tp_rank, and layer numbers restart at 0 on every pipeline stage.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError, safe_open

from llmjp_runtime.errors import ArtefactInvalid
from llmjp_runtime.executor.torch.config import CheckpointConfig, read_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EMBEDDING, FINAL_NORM, LM_HEAD = (
    "transformer.vocab_embedding.weight",
    "transformer.ln_f.weight",
    "lm_head.weight",
)
_IGNORED = frozenset({"embed_positions", "rotary_inv_freq", "embed_positions_for_gpt_attention"})
"""Rotary tables that some converters write; they follow from the config."""
LINEARS = ("attention.qkv", "attention.dense", "mlp.fc", "mlp.gate", "mlp.proj")
"""A layer's linear parts, which are what FP8 quantises."""
WEIGHT_SCALE, INPUT_SCALE = "weights_scaling_factor", "activation_scaling_factor"
"""An FP8 weight is multiplied by the first, its input divided by the second."""
KV_SCALE, K_SCALE, V_SCALE = (f"attention.{x}_cache_scaling_factor" for x in ("kv", "k", "v"))
"""Keys and values are divided by these before FP8; the latter two are optional."""
_LAYER = re.compile(r"transformer\.layers\.(\d+)\.")
_STORED = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""The safetensors name of each dtype."""

Shape = tuple[int, ...]


class ExpectedTensor(NamedTuple):
    """The shape and dtype that a stored tensor must have."""

    shape: Shape
    dtype: str
    """The safetensors name."""


_SCALE = ExpectedTensor((1,), "F32")
"""TensorRT-LLM loads scales without a dimension, too."""


def name_layer_tensor(index: int, tensor: str) -> str:
    """Return the stored name of a layer's tensor; `index` counts within the pipeline stage."""
    return f"transformer.layers.{index}.{tensor}"


def list_layer_shapes(config: CheckpointConfig) -> dict[str, Shape]:
    """Return the shapes of every layer's tensors on every rank.

    `fc` is Hugging Face's gate_proj, `gate` its up_proj and `proj` its down_proj; `qkv` is this
    rank's [q; k; v].
    """
    hidden, inner = config.hidden_size, config.intermediate_size // config.tp_size
    queries = config.heads_per_rank * config.head_size
    keys = config.kv_heads_per_rank * config.head_size
    return {
        "input_layernorm": (hidden,),
        "attention.qkv": (queries + 2 * keys, hidden),
        "attention.dense": (hidden, queries),
        "post_layernorm": (hidden,),
        "mlp.fc": (inner, hidden),
        "mlp.gate": (inner, hidden),
        "mlp.proj": (hidden, inner),
    }


def list_layer_tensors(config: CheckpointConfig) -> dict[str, ExpectedTensor]:
    """Return a layer's weights and the scales that FP8 needs, by name within the layer."""
    dtype, tensors = _STORED[config.dtype], {}
    for name, shape in list_layer_shapes(config).items():
        quantised = config.fp8_linears and name in LINEARS
        tensors[f"{name}.weight"] = ExpectedTensor(shape, "F8_E4M3" if quantised else dtype)
    if config.fp8_linears:
        scales = (f"{name}.{scale}" for name in LINEARS for scale in (WEIGHT_SCALE, INPUT_SCALE))
        tensors |= dict.fromkeys(scales, _SCALE)
    if config.fp8_kv_cache:
        tensors[KV_SCALE] = _SCALE
    return tensors


def list_rank_tensors(
    config: CheckpointConfig, pp_rank: int, num_layers: int
) -> dict[str, ExpectedTensor]:
    """Return everything that a rank must hold whose stage has `num_layers` layers."""
    dtype = _STORED[config.dtype]
    tensors = {
        name_layer_tensor(index, name): stored
        for index in range(num_layers)
        for name, stored in list_layer_tensors(config).items()
    }
    if pp_rank == 0:
        tensors[EMBEDDING] = ExpectedTensor(_compute_embedding_shape(config), dtype)
    if pp_rank == config.pp_size - 1:
        tensors[FINAL_NORM] = ExpectedTensor((config.hidden_size,), dtype)
        tensors[LM_HEAD] = ExpectedTensor((config.vocab_rows_per_rank, config.hidden_size), dtype)
    return tensors


def _list_optional_tensors(config: CheckpointConfig, num_layers: int) -> dict[str, ExpectedTensor]:
    names = (K_SCALE, V_SCALE) if config.fp8_kv_cache else ()
    return {name_layer_tensor(index, name): _SCALE for index in range(num_layers) for name in names}


def _compute_embedding_shape(config: CheckpointConfig) -> Shape:
    if not config.use_parallel_embedding:
        return (config.vocab_size, config.hidden_size)
    if config.embedding_sharding_dim == 0:
        return (config.vocab_rows_per_rank, config.hidden_size)
    return (config.vocab_size, config.hidden_size // config.tp_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedCheckpoint:
    """A folder whose headers agree with its config."""

    folder: Path
    config: CheckpointConfig
    layers_per_stage: tuple[int, ...]
    """One entry for each pipeline stage; their sum is the model's."""

    @classmethod
    def open(cls, folder: Path) -> ShardedCheckpoint:
        """Read config.json and every header; no weights.

        Raises:
            ArtefactInvalid: a file or tensor missing, damaged, unexpected, of wrong shape or dtype.
            UnsupportedModel: see `read_config`.
        """
        config = read_config(folder / "config.json")
        layers = tuple(_count_layers(folder, config, stage) for stage in range(config.pp_size))
        if sum(layers) != config.num_hidden_layers:
            raise ArtefactInvalid(
                f"{folder}: the stages hold {layers} layers,"
                f" config.json says {config.num_hidden_layers}"
            )
        checkpoint = cls(folder=folder, config=config, layers_per_stage=layers)
        for pp_rank in range(config.pp_size):
            for tp_rank in range(config.tp_size):
                checkpoint._check_rank(pp_rank, tp_rank)
        return checkpoint

    def rank_path(self, pp_rank: int, tp_rank: int) -> Path:
        """Return the file of one rank."""
        return self.folder / f"rank{pp_rank * self.config.tp_size + tp_rank}.safetensors"

    def locate_layer(self, layer: int) -> tuple[int, int]:
        """Return the pipeline stage that holds a layer of the model, and its number there."""
        for stage, num_layers in enumerate(self.layers_per_stage):
            if layer < num_layers:
                return stage, layer
            layer -= num_layers
        raise IndexError(layer)

    def _check_rank(self, pp_rank: int, tp_rank: int) -> None:
        path = self.rank_path(pp_rank, tp_rank)
        num_layers = self.layers_per_stage[pp_rank]
        expected = list_rank_tensors(self.config, pp_rank, num_layers)
        optional = _list_optional_tensors(self.config, num_layers)
        with open_tensors(path) as tensors:
            found = set(tensors.keys()) - _IGNORED
            if missing := sorted(expected.keys() - found):
                raise ArtefactInvalid(f"{path}: lacks {_abbreviate(missing)}")
            if extra := sorted(found - expected.keys() - optional.keys()):
                raise ArtefactInvalid(
                    f"{path}: holds {_abbreviate(extra)}, which this model has no place for"
                )
            for name, stored in (expected | optional).items():
                if name in found:
                    self._check_tensor(path, name, tensors.get_slice(name), stored)

    def _check_tensor(self, path: Path, name: str, found: Any, expected: ExpectedTensor) -> None:
        shape, dtype = tuple(found.get_shape()), found.get_dtype()
        if shape != expected.shape and not (expected is _SCALE and shape == ()):
            raise ArtefactInvalid(
                f"{path}: {name} has shape {shape}, config.json implies {expected.shape}"
            )
        if dtype == expected.dtype:
            return
        why = f"says {self.config.dtype}"
        if expected.dtype != _STORED[self.config.dtype]:
            why = f"(quantization) implies {expected.dtype}"
        raise ArtefactInvalid(f"{path}: {name} is {dtype}, config.json {why}")


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file, memory-mapped; translate its library's errors.

    Raises:
        ArtefactInvalid: not there, or not a sound safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as tensors:
            yield tensors
    except OSError as exc:
        raise ArtefactInvalid(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    except SafetensorError as exc:
        raise ArtefactInvalid(f"{path}: is damaged: {exc}") from exc


def _count_layers(folder: Path, config: CheckpointConfig, pp_rank: int) -> int:
    """Return a stage's number of layers, from its first rank: stages may be of unequal length."""
    with open_tensors(folder / f"rank{pp_rank * config.tp_size}.safetensors") as tensors:
        matches = map(_LAYER.match, tensors.keys())
        return len({match[1] for match in matches if match})


def _abbreviate(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
