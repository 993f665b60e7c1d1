"""The whole spec, and the rules between its parts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Final

from llmjp_builder.contracts.defaults import KV_CACHE_FRACTION
from llmjp_builder.contracts.spec import Backend, Kind
from llmjp_operator.api.engine import Engine, Hardware, RuntimeChoice
from llmjp_operator.api.field_types import CelRule
from llmjp_operator.api.model_shapes import SHAPES, build_repository_pattern
from llmjp_operator.api.pod_template import PodSettings
from llmjp_operator.api.serving import Serving
from llmjp_operator.api.source import CheckpointSource, LicenceAcceptance
from llmjp_operator.api.storage import Build, Storage
from llmjp_operator.names import CPU_FLAVOUR

BEFORE_ADA: Final = (
    "^(Tesla-.*|(NVIDIA-)?(TITAN|V100|T4|A2|A10G?|A16|A30|A40|A100|A800|RTX-A[0-9]+)(-.*)?)$"
)
"""Values of nvidia.com/gpu.product with a compute capability below 8.9 (developer.nvidia.com/
cuda-gpus); what is not known to be older passes."""


def _build_size_rules() -> Iterator[CelRule]:
    for size, shape in SHAPES.items():
        allowed, fp8 = shape.tensor_parallel, shape.fp8_tensor_parallel
        named = (
            "!has(self.source.huggingFace) || !self.source.huggingFace.repository"
            f'.matches("{build_repository_pattern(size).replace(chr(92), chr(92) * 2)}")'
        )
        yield CelRule(
            f"{named} || self.engine.tensorParallel in {list(allowed)}",
            f"for llm-jp-3-{size} tensorParallel must be {_join_choices(allowed)}: it divides "
            f"{shape.heads} attention heads and an MLP of {shape.intermediate}",
            ".engine.tensorParallel",
        )
        if fp8 != allowed:
            yield CelRule(
                f"{named} || self.engine.quantization != 'fp8' || self.engine.padIntermediate > 0 "
                "|| !(self.engine.backend in ['tensorrt', 'torch']) || "
                f"self.engine.tensorParallel in {list(fp8)}",
                f"for llm-jp-3-{size} in FP8 tensorParallel must be "
                f"{_join_choices(fp8)}, as FP8 takes "
                "widths that are multiples of 16; "
                "for more GPUs use pipelineParallel, or padIntermediate 16",
                ".engine.tensorParallel",
            )


def _join_choices(numbers: tuple[int, ...]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Desired state."""

    RULES: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "self.engine.backend != 'tensorrt' || "
            "(has(self.hardware) && has(self.hardware.gpuProduct))",
            "backend tensorrt needs gpuProduct: an engine runs only on the kind of GPU that it was "
            "built on",
            ".hardware.gpuProduct",
            "FieldValueRequired",
        ),
        CelRule(
            "self.engine.quantization != 'fp8' || !has(self.hardware.gpuProduct) || "
            "!(self.engine.backend in ['tensorrt', 'pytorch']) || "
            f"!self.hardware.gpuProduct.matches('{BEFORE_ADA}')",
            "gpuProduct is a GPU without FP8 arithmetic, which came with Ada (L4, L40S) and Hopper "
            "(H100, H200): quantization must be none",
            ".engine.quantization",
        ),
        CelRule(
            "self.engine.backend != 'torch' || "
            f"self.serving.kvCacheFraction == {KV_CACHE_FRACTION}",
            "backend torch sizes its KV cache by maxBatchSize and maxSeqLen: leave kvCacheFraction "
            "out",
            ".serving.kvCacheFraction",
            "FieldValueForbidden",
        ),
        CelRule(
            "!has(self.build) || !has(self.build.calibration) || !self.build.calibration.gpu || "
            "self.engine.quantization == 'fp8'",
            "calibration.gpu needs engine.quantization fp8: nothing else is measured",
            ".build.calibration.gpu",
            "FieldValueForbidden",
        ),
        *_build_size_rules(),
    )

    source: CheckpointSource
    """The Hugging Face checkpoint."""
    licence: LicenceAcceptance = field(default_factory=LicenceAcceptance)
    """Acceptance of the model's licence."""
    runtime: RuntimeChoice = field(default_factory=RuntimeChoice)
    """Versions to build and serve with."""
    hardware: Hardware = field(default_factory=Hardware)
    """Nodes to build and serve on."""
    engine: Engine = field(default_factory=Engine)
    """What is built from the checkpoint."""
    build: Build = field(default_factory=Build)
    """The Job that builds."""
    storage: Storage
    """The volume for artefacts."""
    pods: PodSettings = field(default_factory=PodSettings)
    """What all pods of the model have in common, those of Jobs and those that serve."""
    serving: Serving = field(default_factory=Serving)
    """The pods that serve."""

    @property
    def serving_gpus(self) -> int:
        """GPUs of one pod that serves."""
        if self.engine.backend is Backend.TORCH:
            return 0 if self.hardware.gpu_product is None else 1
        return self.engine.tensor_parallel * self.engine.pipeline_parallel

    @property
    def calibration_gpus(self) -> int:
        """GPUs of the pod that fetches, converts and calibrates."""
        return 1 if self.build.calibration.gpu and self.engine.quantization == "fp8" else 0

    @property
    def build_gpus(self) -> int:
        """GPUs of the pod that builds the artefact: engines are compiled on one for each rank."""
        if self.engine.backend.kind is not Kind.ENGINE:
            return self.calibration_gpus
        world = self.engine.tensor_parallel * self.engine.pipeline_parallel
        return min(world, self.hardware.gpus_per_node)

    @property
    def serving_flavour(self) -> str:
        """Flavour of the image that serves: a key of `Settings.images`."""
        return self.runtime.version if self.serving_gpus else CPU_FLAVOUR

    def get_build_flavour(self, gpus: int) -> str:
        """Return the flavour of the image that builds with that many GPUs."""
        return self.runtime.version if gpus else CPU_FLAVOUR
