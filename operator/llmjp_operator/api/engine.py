"""What is built, on which hardware."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from llmjp_builder.contracts.constraints import Entries, IntegerOrString, Length, OneOf, Range
from llmjp_builder.contracts.defaults import MAX_RANKS
from llmjp_builder.contracts.spec import Backend
from llmjp_operator.api.field_types import CelRule, DataKey, LabelValue, ObjectName
from llmjp_operator.runtimes import DEFAULT_RUNTIME, RUNTIMES

_OWN_FIELDS: Final = "['max_batch_size', 'max_input_len', 'max_seq_len', 'max_decoder_seq_len']"
_BUILDERS: Final = (
    "['checkpoint_dir', 'output_dir', 'input_timing_cache', 'output_timing_cache', 'workers', "
    "'log_level', 'monitor_memory', 'model_config', 'build_config', 'model_cls_file', "
    "'model_cls_name', 'lora_dir']"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeChoice:
    """The versions that build and serve."""

    version: Annotated[str, OneOf(tuple(RUNTIMES))] = DEFAULT_RUNTIME
    """A row of the runtime table. It is stored when the model is created, so that a newer operator
    with a newer default rebuilds nothing. To move to another row, set it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The nodes to build and serve on: both on the same kind of GPU."""

    gpu_product: Annotated[LabelValue, Length(1, 63)] | None = None
    """The nodes' label `nvidia.com/gpu.product`. Left out: any GPU, or for backend torch none."""
    gpus_per_node: Annotated[int, Range(1, 64)] = 8
    """A model whose tensorParallel x pipelineParallel is more than this is not served yet; the
    condition Accepted says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextsConfigMap:
    """A key of a ConfigMap that holds texts."""

    name: ObjectName
    """Of the ConfigMap, in the model's namespace."""
    key: DataKey = "texts.txt"
    """Inside the ConfigMap: UTF-8, one passage per line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSource:
    """The texts that FP8 scales are measured on."""

    config_map_ref: TextsConfigMap | None = None
    """Left out: the built-in Japanese texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What is built from the checkpoint. Any change builds beside what serves, then rolls out."""

    RULES: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "self.kvCache != 'fp8' || self.quantization == 'fp8'",
            "kvCache fp8 needs quantization fp8: without it, attention over prompts loses paging, "
            "and with it reuse of the cache",
            ".kvCache",
        ),
        CelRule(
            "!has(self.calibration) || !has(self.calibration.configMapRef) || "
            "self.quantization == 'fp8'",
            "calibration needs quantization fp8: nothing else is measured",
            ".calibration",
        ),
        CelRule(
            "self.padIntermediate % 16 == 0",
            "padIntermediate must be 0, which pads nothing, or a multiple of 16",
            ".padIntermediate",
        ),
        CelRule(
            "self.padIntermediate == 0 || self.backend in ['tensorrt', 'torch']",
            "backends pytorch and vllm divide the model themselves: leave padIntermediate out",
            ".padIntermediate",
            "FieldValueForbidden",
        ),
        CelRule(
            f"self.tensorParallel * self.pipelineParallel <= {MAX_RANKS}",
            f"tensorParallel x pipelineParallel must be at most {MAX_RANKS}",
            ".tensorParallel",
        ),
        CelRule(
            "!has(self.maxInputLen) || self.maxInputLen < self.maxSeqLen",
            "maxInputLen must be less than maxSeqLen, which is prompt and reply together",
            ".maxInputLen",
        ),
        CelRule(
            "!has(self.options) || size(self.options) == 0 || self.backend == 'tensorrt'",
            "options are those of trtllm-build: only backend tensorrt takes them",
            ".options",
            "FieldValueForbidden",
        ),
        CelRule(
            f"!has(self.options) || !self.options.exists(name, name in {_OWN_FIELDS})",
            "maxBatchSize, maxInputLen and maxSeqLen are fields of spec.engine, not options",
            ".options",
            "FieldValueForbidden",
        ),
        CelRule(
            f"!has(self.options) || !self.options.exists(name, name in {_BUILDERS})",
            "options must not name files, workers or logs: the builder decides them",
            ".options",
            "FieldValueForbidden",
        ),
        CelRule(
            "!has(self.options) || self.options.all(name, name.matches('^[a-z0-9_]{1,64}$'))",
            "options are spelled as trtllm-build has them, without dashes in front: gemm_plugin",
            ".options",
        ),
    )

    backend: Backend = Backend.TENSORRT
    """What generates the tokens: `tensorrt` TensorRT-LLM's engines, `pytorch` its LLM API,
    `vllm` vLLM, `torch` the executor of llmjp-serving, which also runs without a GPU."""
    quantization: Literal["none", "fp8"] = "none"
    """`fp8`: the decoder's linear layers in FP8, one scale per tensor."""
    kv_cache: Literal["auto", "fp8"] = "auto"
    """Keys and values: `auto` in the element type, `fp8` in half the memory."""
    dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    """Of what is not quantised; `auto` is the checkpoint's own."""
    calibration: CalibrationSource | None = None
    """For quantization fp8."""
    tensor_parallel: Annotated[int, Range(1, MAX_RANKS)] = 1
    """GPUs that share every layer."""
    pipeline_parallel: Annotated[int, Range(1, MAX_RANKS)] = 1
    """Groups of such GPUs, each with a part of the layers."""
    pad_intermediate: Annotated[int, Range(0, 4096)] = 0
    """Zeros fill the MLP's width per GPU up to a multiple of this, which changes no result: 16
    where FP8 needs it. 0 fills nothing."""
    max_batch_size: Annotated[int, Range(1, 4096)] = 64
    """Requests that are worked on at once."""
    max_input_len: Annotated[int, Range(1, 1_048_576)] | None = None
    """Tokens of a prompt; left out: what maxSeqLen leaves."""
    max_seq_len: Annotated[int, Range(2, 1_048_576)] = 4096
    """Tokens of prompt and reply together."""
    options: Annotated[
        Mapping[str, Annotated[int | str, IntegerOrString(), Length(0, 64)]] | None, Entries(64)
    ] = None
    """Further options of trtllm-build, checked against the runtime's version before the build. An
    option without a value is switched on by "true", in quotes."""

    @property
    def build_options(self) -> Mapping[str, int | str | bool]:
        """The options as the builder takes them: what has no value is true or false."""
        switches = {"true": True, "false": False}
        return {
            name: switches.get(str(value), value) for name, value in (self.options or {}).items()
        }
