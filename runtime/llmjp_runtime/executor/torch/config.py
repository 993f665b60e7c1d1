"""config.json of a TensorRT-LLM checkpoint, parsed and checked; knows nothing of tensors.

Reads the minimal portable form as well as the long forms that TensorRT-LLM (LLaMAConfig.to_dict)
and modelopt write. Whatever would change the result and is not implemented is refused by name.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from llmjp_builder.contracts.errors import BadConfig, UnsupportedRequest
from llmjp_builder.contracts.judgement.rope import parse_rope_scaling
from llmjp_runtime.errors import ArtefactInvalid, UnsupportedModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmjp_builder.contracts.judgement.rope import RopeScaling

CheckpointDtype = Literal["float32", "bfloat16", "float16"]

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "architecture": ("LlamaForCausalLM",),
    "hidden_act": ("silu",),
    "position_embedding_type": ("rope_gpt_neox",),
    "rotary_pct": (1.0,),
    "attn_bias": (False,),
    "mlp_bias": (False,),
    "bias": (False,),
    "lm_head_bias": (False,),
    "qk_layernorm": (False,),
    "residual_mlp": (False,),
    "rmsnorm": (True,),
    "fc_after_embed": (False,),
    "use_input_layernorm_in_first_layer": (True,),
    "use_last_layernorm": (True,),
    "layer_idx_offset": (0,),
    "embedding_multiplier": (1.0,),
    "attention_multiplier": (1.0,),
    "residual_multiplier": (1.0,),
    "output_multiplier_scale": (1.0,),
    "mapping.cp_size": (1,),
    "mapping.enable_attention_dp": (False,),
    "moe.num_experts": (0,),
    "quantization.quant_algo": (None, "FP8"),
    "quantization.kv_cache_quant_algo": (None, "FP8"),
}
"""Keys that may be absent, with the values that mean a plain Llama, perhaps in FP8."""

_NEVER_QUANTIZED = frozenset(
    {
        "*lm_head",
        "*router",
        "*vocab_embedding",
        "*position_embedding",
        "*block_embedding",
        "*shared_expert_gate",
    }
)
"""TensorRT-LLM's default for `exclude_modules` (tensorrt_llm/models/modeling_utils.py)."""
_LM_HEAD = frozenset({"lm_head", "*lm_head"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """The shape of a Llama and how it is split over ranks."""

    dtype: CheckpointDtype
    vocab_size: int
    """Rows of the logits, without the padding that tensor parallelism adds."""
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_size: int
    norm_epsilon: float
    rotary_base: float
    rotary_scaling: RopeScaling | None
    """None for a plain rotary embedding."""
    max_position_embeddings: int
    tp_size: int
    pp_size: int
    use_parallel_embedding: bool
    embedding_sharding_dim: Literal[0, 1]
    fp8_linears: bool
    """The decoder's linear layers are stored in FP8 (e4m3), one scale per tensor."""
    fp8_kv_cache: bool
    """Keys and values are cached in FP8, one scale per layer."""

    @property
    def world_size(self) -> int:
        """Ranks, and files of tensors."""
        return self.tp_size * self.pp_size

    @property
    def heads_per_rank(self) -> int:
        """Query heads of one tp rank."""
        return self.num_attention_heads // self.tp_size

    @property
    def kv_heads_per_rank(self) -> int:
        """Key heads of one tp rank; where tp exceeds them, every rank holds a copy of one."""
        return max(1, self.num_key_value_heads // self.tp_size)

    @property
    def vocab_rows_per_rank(self) -> int:
        """Rows of one rank's lm_head: the vocabulary is padded to a multiple of tp."""
        return math.ceil(self.vocab_size / self.tp_size)


def read_config(path: Path) -> CheckpointConfig:
    """Read and parse a config.json.

    Raises:
        ArtefactInvalid: not there, not JSON, a key missing or out of range, sizes at odds.
        UnsupportedModel: a model or a feature that is not a plain Llama in bf16, fp16 or fp32, with
            or without FP8 per tensor.
    """
    try:
        raw = json.loads(path.read_bytes())
    except OSError as exc:
        raise ArtefactInvalid(f"{path}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise ArtefactInvalid(f"{path}: is not JSON") from exc
    if not isinstance(raw, dict):
        raise ArtefactInvalid(f"{path}: is not a JSON object")
    return _Parser(path, _flatten(raw)).parse()


def _flatten(raw: dict[str, Any]) -> dict[str, Any]:
    """Return nested objects by dotted keys, one level deep."""
    flat = dict(raw)
    for group in ("mapping", "quantization", "moe"):
        if isinstance(raw.get(group), dict):
            flat |= {f"{group}.{key}": value for key, value in raw[group].items()}
    return flat


@dataclass(frozen=True, slots=True)
class _Parser:
    path: Path
    raw: dict[str, Any]

    def parse(self) -> CheckpointConfig:
        self._refuse_unsupported()
        heads, hidden = self._parse_size("num_attention_heads"), self._parse_size("hidden_size")
        kv_heads = self._parse_size("num_key_value_heads", default=heads)
        config = CheckpointConfig(
            dtype=self._parse_dtype(),
            vocab_size=self._parse_size("vocab_size"),
            hidden_size=hidden,
            intermediate_size=self._parse_size("intermediate_size"),
            num_hidden_layers=self._parse_size("num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_size=self._parse_size("head_size", default=hidden // heads),
            norm_epsilon=self._parse_positive("norm_epsilon"),
            rotary_base=self._parse_positive("rotary_base", default=10000.0),
            rotary_scaling=self._parse_rotary_scaling(),
            max_position_embeddings=self._parse_size("max_position_embeddings"),
            tp_size=self._parse_size("mapping.tp_size", default=1),
            pp_size=self._parse_size("mapping.pp_size", default=1),
            use_parallel_embedding=bool(self.raw.get("use_parallel_embedding")),
            embedding_sharding_dim=self._parse_sharding_dim(),
            fp8_linears=self.raw.get("quantization.quant_algo") == "FP8",
            fp8_kv_cache=self.raw.get("quantization.kv_cache_quant_algo") == "FP8",
        )
        for problem in self._find_contradictions(config):
            raise ArtefactInvalid(f"{self.path}: {problem}")
        return config

    def _refuse_unsupported(self) -> None:
        for key, neutral in _NEUTRAL.items():
            value = self.raw.get(key, neutral[0])
            if value not in neutral:
                raise UnsupportedModel(f"{self.path}: not supported: {key} {json.dumps(value)}")
        self._refuse_other_exclusions()
        if "architecture" not in self.raw:
            raise ArtefactInvalid(
                f"{self.path}: has no key architecture: not a TensorRT-LLM checkpoint"
            )

    def _refuse_other_exclusions(self) -> None:
        """Refuse anything but FP8 for all linear layers of the decoder and not for lm_head."""
        key = "quantization.exclude_modules"
        names = self.raw.get(key)
        if names is None or self.raw.get("quantization.quant_algo") is None:
            return
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ArtefactInvalid(f"{self.path}: {key} is {json.dumps(names)}, expected names")
        if not _LM_HEAD & set(names):
            raise UnsupportedModel(f"{self.path}: not supported: lm_head in FP8 ({key} lacks it)")
        if other := sorted(set(names) - _NEVER_QUANTIZED - _LM_HEAD):
            raise UnsupportedModel(f"{self.path}: not supported: {key} with {json.dumps(other[0])}")

    def _find_contradictions(self, config: CheckpointConfig) -> Iterator[str]:
        tp, kv, heads = config.tp_size, config.num_key_value_heads, config.num_attention_heads
        world = self._parse_size("mapping.world_size", default=config.world_size)
        if world != config.world_size:
            yield f"mapping.world_size is {world}, but tp_size * pp_size is {config.world_size}"
        for key in ("num_attention_heads", "intermediate_size", "hidden_size"):
            if getattr(config, key) % tp:
                yield f"{key} {getattr(config, key)} is not a multiple of tp_size {tp}"
        if kv % tp and tp % kv:
            yield f"num_key_value_heads {kv} and tp_size {tp}: neither divides the other"
        if heads % kv:
            yield f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv}"
        if config.head_size % 2:
            yield f"head_size {config.head_size} is odd: rotary embedding needs pairs"
        if self.raw.get("rotary_embedding_dim", config.head_size) != config.head_size:
            yield f"rotary_embedding_dim differs from head_size {config.head_size}"
        if config.num_hidden_layers < config.pp_size:
            yield f"num_hidden_layers {config.num_hidden_layers} < pp_size {config.pp_size}"

    def _parse_rotary_scaling(self) -> RopeScaling | None:
        key = "rotary_scaling"
        document = self.raw.get(key)
        if document is not None and not isinstance(document, dict):
            raise ArtefactInvalid(
                f"{self.path}: {key} is {json.dumps(document)}, expected an object"
            )
        try:
            return parse_rope_scaling(
                document,
                f"{self.path}: {key}",
                max_positions=self._parse_size("max_position_embeddings"),
                theta=self._parse_positive("rotary_base", default=10000.0),
            )
        except UnsupportedRequest as exc:
            raise UnsupportedModel(str(exc)) from exc
        except BadConfig as exc:
            raise ArtefactInvalid(str(exc)) from exc

    def _parse_dtype(self) -> CheckpointDtype:
        value = self.raw.get("dtype")
        if value not in get_args(CheckpointDtype):
            allowed = ", ".join(get_args(CheckpointDtype))
            raise ArtefactInvalid(f"{self.path}: dtype is {json.dumps(value)}, expected {allowed}")
        return cast("CheckpointDtype", value)

    def _parse_sharding_dim(self) -> Literal[0, 1]:
        match self.raw.get("embedding_sharding_dim", 0):
            case 0:
                return 0
            case 1:
                return 1
            case value:
                raise ArtefactInvalid(
                    f"{self.path}: embedding_sharding_dim is {json.dumps(value)}, expected 0 or 1"
                )

    def _parse_size(self, key: str, *, default: int | None = None) -> int:
        value = self.raw.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ArtefactInvalid(
                f"{self.path}: {key} is {json.dumps(value)}, expected an int >= 1"
            )
        return value

    def _parse_positive(self, key: str, *, default: float | None = None) -> float:
        value = self.raw.get(key, default)
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not 0 < value < math.inf
        ):
            raise ArtefactInvalid(
                f"{self.path}: {key} is {json.dumps(value)}, expected a number > 0"
            )
        return float(value)
