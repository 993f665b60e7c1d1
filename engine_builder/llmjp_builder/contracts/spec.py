"""The JSON contracts between builder, operator, runtime and command line. Standard library only.

`BuildSpec` goes in, `Manifest` describes what came out; `Progress`, `Failure`, `Resolution` and
`Built` report in between and at the end. All are frozen values with `to_json` and a strict
`from_json`: an unknown, missing or mistyped field is an error that names it. JSON has the
attributes' names; fields that are None are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping  # noqa: TC003 - `decode` resolves the annotations
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Self

from llmjp_builder.contracts.codec import decode, encode
from llmjp_builder.contracts.errors import BadArtefact, BuilderError, InvalidSpec

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST_NAME = "manifest.json"
"""Written last: an artefact is complete when this file exists."""

MANIFEST_SCHEMA = 1
"""Incremented when the manifest's form changes; readers refuse versions they do not know."""

Scalar = str | int | float | bool
Dtype = Literal["bfloat16", "float16"]


class Kind(StrEnum):
    """Kinds of artefacts, by their contents."""

    RANKS = "ranks"
    """A TensorRT-LLM checkpoint, one file per rank."""
    UNIFIED = "unified"
    """Hugging Face files, not sharded."""
    ENGINE = "engine"
    """TensorRT engines, one file per rank."""


class Backend(StrEnum):
    """Backends that serve artefacts."""

    TORCH = "torch"
    TENSORRT = "tensorrt"
    PYTORCH = "pytorch"
    VLLM = "vllm"

    @property
    def kind(self) -> Kind:
        """The kind of artefact that this backend serves."""
        match self:
            case Backend.TORCH:
                return Kind.RANKS
            case Backend.TENSORRT:
                return Kind.ENGINE
            case Backend.PYTORCH | Backend.VLLM:
                return Kind.UNIFIED


class Step(StrEnum):
    """The steps of a build, in order."""

    FETCH = "fetch"
    CALIBRATE = "calibrate"
    CONVERT = "convert"
    COMPILE = "compile"
    ASSEMBLE = "assemble"
    PUBLISH = "publish"


class _Contract:
    """JSON in both directions, for the dataclasses below."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return a dict of JSON values; fields that are None are left out."""
        encoded: dict[str, Any] = encode(self)
        return encoded

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Parse what `to_json` returned.

        Raises:
            InvalidSpec: a field, which the message names, is unknown, missing, mistyped or out of
                range.
        """
        decoded: Self = decode(cls, value, cls.__name__)
        return decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(_Contract):
    """Where the Hugging Face checkpoint is: a folder, or a repository of a hub."""

    path: str | None = None
    repository: str | None = None
    revision: str | None = None
    """A branch, tag or commit of the repository."""

    def __post_init__(self) -> None:
        if (self.path is None) == (self.repository is None):
            raise InvalidSpec("source: give either path or repository, and not both")
        if self.revision is not None and self.repository is None:
            raise InvalidSpec("source.revision: only a repository has revisions")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutOptions(_Contract):
    """Requested storage of a checkpoint's tensors and their division over ranks."""

    dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    """`auto` is the checkpoint's own; float32 becomes float16, as in TensorRT-LLM's converter."""
    quantization: Literal["none", "fp8"] = "none"
    kv_cache: Literal["auto", "fp8"] = "auto"
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    pad_intermediate: int = 0
    """The MLP's width per rank is padded to a multiple of this. 0 pads nothing and refuses widths
    that FP8 GEMMs may not take; 1 pads nothing and takes any width."""
    embedding_sharding_dim: int | None = None
    """0 splits the embedding table by vocabulary, 1 by hidden size, None replicates it."""

    def __post_init__(self) -> None:
        _require_positive(self, "tensor_parallel", "pipeline_parallel")
        if self.pad_intermediate < 0:
            raise InvalidSpec(f"pad_intermediate: must be at least 0, not {self.pad_intermediate}")
        if self.embedding_sharding_dim not in {None, 0, 1}:
            raise InvalidSpec(
                f"embedding_sharding_dim: must be 0 or 1, not {self.embedding_sharding_dim}"
            )

    def undivided(self) -> LayoutOptions:
        """Return the same for one rank, as checkpoints that the runtime divides are stored."""
        return replace(self, tensor_parallel=1, pipeline_parallel=1, pad_intermediate=0)

    def to_fields(self) -> dict[str, Any]:
        """Return the layout by name, for a value that has these fields among others."""
        return {each.name: getattr(self, each.name) for each in fields(LayoutOptions)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSpec(LayoutOptions):
    """What to build. Values may still be `auto`; the key is made of resolved ones (`KeyInputs`)."""

    source: Source
    endpoint: str | None = None
    """Address of the hub; None takes HF_ENDPOINT, or huggingface.co. Not part of any key."""
    accepted_licence: str | None = None
    """Id of the model's own terms, if somebody accepts them. Not part of any key."""
    backend: Backend = Backend.TORCH
    calibration: str | None = None
    """Path of a text file; None takes the built-in texts. For quantization fp8 only."""
    activation_amax: str | None = None
    """Path of a JSON file with what calibration would find (`llmjp_builder.convert.amax`)."""
    max_batch_size: int | None = None
    """This and the following three are read for kind `engine` only."""
    max_input_len: int | None = None
    max_seq_len: int | None = None
    options: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        LayoutOptions.__post_init__(self)
        _require_positive(self, "max_batch_size", "max_input_len", "max_seq_len")


def _require_positive(value: object, *names: str) -> None:
    for name in names:
        number = getattr(value, name)
        if number is not None and number < 1:
            raise InvalidSpec(f"{name}: must be at least 1, not {number}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInputs(_Contract):
    """What an engine's bytes depend on besides its checkpoint."""

    options: Mapping[str, Scalar]
    gpu_product: str
    compute_capability: str
    tensorrt_llm: str
    tensorrt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInputs(_Contract):
    """Everything an artefact's bytes depend on, resolved: no `auto`, no branch name, no path."""

    kind: Kind
    source_sha256: Mapping[str, str]
    """File name to SHA-256, of every source file that was used."""
    dtype: Dtype
    converter_revision: str
    quantization: Literal["none", "fp8"] = "none"
    kv_cache: Literal["auto", "fp8"] = "auto"
    calibration_digest: str | None = None
    tensor_parallel: int = 1
    """1 for kind `unified`, where it is a setting of the server; likewise pipeline_parallel."""
    pipeline_parallel: int = 1
    pad_intermediate: int = 0
    """Zeros that were added to the MLP's width of each rank."""
    embedding_sharding_dim: int | None = None
    engine: EngineInputs | None = None

    @property
    def key(self) -> str:
        """Name of the artefact: 20 hex digits of SHA-256 over the canonical JSON."""
        return hashlib.sha256(to_canonical_json(self.to_json()).encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord(_Contract):
    """One file of an artefact."""

    size: int
    """In bytes."""
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(_Contract):
    """What a finished artefact is. No timestamp and no absolute path: equal inputs, equal bytes."""

    kind: Kind
    key: str
    inputs: KeyInputs
    files: Mapping[str, FileRecord]
    """Every file but the manifest; paths relative to the artefact, with forward slashes."""
    bytes_per_rank: tuple[int, ...]
    """Bytes of the rank's weights, by rank; rank = pp_rank * tensor_parallel + tp_rank."""
    versions: Mapping[str, str]
    checkpoint_key: str | None = None
    """For an engine: the key of the `ranks` artefact it was compiled from."""
    schema: int = MANIFEST_SCHEMA

    def __post_init__(self) -> None:
        if self.schema != MANIFEST_SCHEMA:
            raise InvalidSpec(f"schema: only {MANIFEST_SCHEMA} is known, found {self.schema}")
        if self.key != self.inputs.key or self.kind is not self.inputs.kind:
            raise InvalidSpec(
                f"key: {self.kind} {self.key} does not follow from inputs ({self.inputs.key})"
            )

    @property
    def tensor_parallel(self) -> int:
        """Ranks that share each layer."""
        return self.inputs.tensor_parallel

    @property
    def pipeline_parallel(self) -> int:
        """Stages that the layers are divided over."""
        return self.inputs.pipeline_parallel

    @property
    def dtype(self) -> Dtype:
        """Element type of every tensor that is not quantised."""
        return self.inputs.dtype

    @classmethod
    def load(cls, directory: Path) -> Manifest:
        """Read the manifest of the artefact in `directory`; its files are not checked.

        Raises:
            BadArtefact: there is none, or it is malformed.
        """
        path = directory / MANIFEST_NAME
        try:
            return cls.from_json(json.loads(path.read_bytes()))
        except FileNotFoundError as exc:
            raise BadArtefact(
                f"{directory}: no {MANIFEST_NAME}, so this is not a complete artefact"
            ) from exc
        except (OSError, ValueError, RecursionError, BuilderError) as exc:
            raise BadArtefact(f"{path}: {exc}") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(_Contract):
    """How far a build is."""

    step: Step
    percent: float
    """Completed part of this step, 0 to 100."""
    bytes_done: int = 0
    bytes_total: int = 0
    """0 where the step has no size."""
    bytes_per_second: float = 0.0
    eta_seconds: float | None = None
    """Until this step ends; None while unknown."""
    message: str = ""


def name_download(digest: str) -> str:
    """Return the name of a downloaded source in the store: for locks, leases, `llmjp store`."""
    return f"source-{digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution(_Contract):
    """What a source was pinned to: the termination message of a Job that resolves."""

    digest: str
    """20 hex digits that stand for the names and contents of all files."""
    bytes: int
    """Size of all files together."""
    config: Mapping[str, Any]
    """The part of config.json that planning needs (`llmjp_builder.planning`)."""
    revision: str | None = None
    """Commit of a repository; None for a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built(_Contract):
    """What a build came to: the termination message of a Job that builds."""

    key: str
    kind: Kind
    cache_hit: bool
    """Whether the artefact was in the store already."""
    bytes: int
    """Size of all its files together."""
    tensor_parallel: int
    pipeline_parallel: int
    gpu_product: str | None = None
    """This and the following are an engine's own: what it was built on and with."""
    compute_capability: str | None = None
    tensorrt_llm: str | None = None
    tensorrt: str | None = None
    made_from: tuple[str, ...] = ()
    """What else this build left in the store: its download and, of an engine, its checkpoint; by
    the names that `llmjp store ls --all` shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(_Contract):
    """Why a build failed: the termination message of a Job."""

    code: str
    """A word of `llmjp_builder.contracts.errors`, `internal` for a bug."""
    step: Step
    message: str
    retryable: bool

    @classmethod
    def from_error(cls, error: BaseException, step: Step) -> Failure:
        """Describe an error that was raised during `step`."""
        if isinstance(error, BuilderError):
            retryable = error.retryable
            return cls(code=error.code, step=step, message=str(error), retryable=retryable)
        message = f"{type(error).__name__}: {error}"
        return cls(code="internal", step=step, message=message, retryable=False)


def to_canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no white space: equal values, equal text."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def to_pretty_json(value: object) -> str:
    """Return indented JSON for people: equal values, equal text, a newline at the end."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
