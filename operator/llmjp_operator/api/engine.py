"""What is built, and for which hardware."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from llmjp_builder.contracts.constraints import Entries, IntegerOrString, Length, OneOf, Range
from llmjp_builder.contracts.defaults import MAX_RANKS
from llmjp_builder.contracts.spec import Backend, LayoutOptions
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
    """Versions to build and serve with."""

    version: Annotated[str, OneOf(tuple(RUNTIMES))] = DEFAULT_RUNTIME
    """A row of the runtime table. It is stored when the model is created, so that upgrading the
    operator to a newer default rebuilds nothing. Set it to move to another row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Nodes to build and serve on, with the same kind of GPU for both."""

    gpu_product: Annotated[LabelValue, Length(1, 63)] | None = None
    """Node label `nvidia.com/gpu.product`. Left out: any GPU, or none for backend torch."""
    gpus_per_node: Annotated[int, Range(1, 64)] = 8
    """GPUs of one node. A model that needs more (tensorParallel x pipelineParallel) cannot be
    served yet; the condition Accepted says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextsConfigMap:
    """A key of a ConfigMap with calibration texts."""

    name: ObjectName
    """Name of a ConfigMap in the model's namespace."""
    key: DataKey = "texts.txt"
    """Key in the ConfigMap; its value is UTF-8 with one passage per line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSource:
    """Texts that FP8 scales are calibrated on."""

    config_map_ref: TextsConfigMap | None = None
    """ConfigMap with texts; left out: the built-in Japanese texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The engine to build. A change is built beside the old engine, then rolled out."""

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
    """What generates tokens: `tensorrt` TensorRT-LLM engines, `pytorch` its LLM API, `vllm` vLLM,
    `torch` the executor of llmjp-serving, which also runs without a GPU."""
    quantization: Literal["none", "fp8"] = "none"
    """`fp8`: the decoder's linear layers in FP8, with one scale per tensor."""
    kv_cache: Literal["auto", "fp8"] = "auto"
    """Element type of keys and values: `auto` is `dtype`, `fp8` takes half the memory."""
    dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    """Element type of everything that is not quantised; `auto` is the checkpoint's."""
    calibration: CalibrationSource | None = None
    """Calibration for quantization fp8."""
    tensor_parallel: Annotated[int, Range(1, MAX_RANKS)] = 1
    """Number of GPUs that share every layer."""
    pipeline_parallel: Annotated[int, Range(1, MAX_RANKS)] = 1
    """Number of stages, groups of such GPUs that hold a part of the layers each."""
    pad_intermediate: Annotated[int, Range(0, 4096)] = 0
    """Pad the MLP width per GPU with zeros to a multiple of this, which changes no result; FP8 may
    need 16. 0 pads nothing."""
    max_batch_size: Annotated[int, Range(1, 4096)] = 64
    """Largest number of requests in a batch."""
    max_input_len: Annotated[int, Range(1, 1_048_576)] | None = None
    """Largest number of tokens of a prompt; left out: limited by maxSeqLen only."""
    max_seq_len: Annotated[int, Range(2, 1_048_576)] = 4096
    """Largest number of tokens of prompt and reply together."""
    options: Annotated[
        Mapping[str, Annotated[int | str, IntegerOrString(), Length(0, 64)]] | None, Entries(64)
    ] = None
    """Further options of trtllm-build, validated for the runtime's version before the build. Write
    "true", in quotes, for an option without a value."""

    @property
    def layout(self) -> LayoutOptions:
        """The layout of the checkpoint, as one value: the converter takes it as it is."""
        return LayoutOptions(
            dtype=self.dtype,
            quantization=self.quantization,
            kv_cache=self.kv_cache,
            tensor_parallel=self.tensor_parallel,
            pipeline_parallel=self.pipeline_parallel,
            pad_intermediate=self.pad_intermediate,
        )

    @property
    def build_options(self) -> Mapping[str, int | str | bool]:
        """The options as the builder takes them: "true" and "false" as booleans."""
        switches = {"true": True, "false": False}
        return {
            name: switches.get(str(value), value) for name, value in (self.options or {}).items()
        }
