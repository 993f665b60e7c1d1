"""The builder's commands: convert, build. Nothing heavy is imported before one runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmjp_cli.engine_options import (
    EngineOptions,
    MaxBatchSize,
    MaxInputLen,
    MaxSeqLen,
    TimeLimit,
    parse_engine_options,
)
from llmjp_cli.fp8_options import (
    ActivationAmax,
    Calibration,
    KvCache,
    KvCacheOption,
    PadIntermediate,
    Quantization,
    QuantizationOption,
    find_amax,
)
from llmjp_cli.source_options import (
    AcceptLicence,
    CaFile,
    Endpoint,
    Revision,
    TokenFile,
    token_in,
)
from llmjp_cli.termination import TerminationMessage, failures_left, leave

if TYPE_CHECKING:
    from llmjp_builder.contracts.spec import BuildSpec, Progress


class Dtype(StrEnum):
    """Element types that a checkpoint can be converted to."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Backend(StrEnum):
    """What will serve an artefact."""

    TORCH = "torch"
    TENSORRT = "tensorrt"
    PYTORCH = "pytorch"
    VLLM = "vllm"


TensorParallel = Annotated[
    int, typer.Option("--tp", min=1, help="Ranks that share every layer (tensor parallel).")
]
PipelineParallel = Annotated[
    int, typer.Option("--pp", min=1, help="Stages that divide the layers (pipeline parallel).")
]
DtypeOption = Annotated[
    Dtype,
    typer.Option(help="Element type; auto keeps the checkpoint's, and makes float32 float16."),
]
EmbeddingShardingDim = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=1,
        show_default="not divided",
        help="Divide the embedding table over the ranks: 0 by vocabulary, 1 by hidden size.",
    ),
]


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Folder of a Hugging Face checkpoint.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make; must not exist.")],
    tp: TensorParallel = 1,
    pp: PipelineParallel = 1,
    dtype: DtypeOption = Dtype.AUTO,
    embedding_sharding_dim: EmbeddingShardingDim = None,
    quantization: QuantizationOption = Quantization.NONE,
    kv_cache: KvCacheOption = KvCache.AUTO,
    activation_amax: ActivationAmax = None,
    calibration: Calibration = None,
    pad_intermediate: PadIntermediate = 0,
) -> None:
    """Convert a Hugging Face checkpoint to a TensorRT-LLM checkpoint.

    OUT gets config.json and one rankN.safetensors per rank, and appears whole or not at all. The
    last line on stdout is OUT.

    Example: llmjp convert llm-jp-3-1.8b-instruct ckpt-tp2 --tp 2

    Example: llmjp convert SRC OUT --quantization fp8 --kv-cache fp8
    """
    from llmjp_builder.contracts.spec import LayoutOptions
    from llmjp_builder.convert.conversion import convert as write
    from llmjp_builder.convert.conversion import prepare
    from llmjp_builder.progress import Reporter
    from llmjp_cli.progress import reporter

    conversion = prepare(
        source,
        LayoutOptions(
            dtype=dtype.value,
            tensor_parallel=tp,
            pipeline_parallel=pp,
            embedding_sharding_dim=embedding_sharding_dim,
            quantization=quantization.value,
            kv_cache=kv_cache.value,
            pad_intermediate=pad_intermediate,
        ),
    )
    with reporter() as show:
        amax = find_amax(conversion, activation_amax, calibration, show)
        write(conversion, out, Reporter(show), amax)
    for stored, count in conversion.plan.casts.items():
        typer.echo(f"{count} tensors: {stored} to {conversion.layout.dtype}", err=True)
    for name in conversion.plan.ignored:
        typer.echo(f"left out: {name}", err=True)
    typer.echo(str(out))


def build(
    context: typer.Context,
    store: Annotated[Path, typer.Option(help="The store's folder; made if missing.")],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SRC]",
            help="Folder of a Hugging Face checkpoint with its tokenizer, or OWNER/NAME on a hub.",
        ),
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(help="JSON file with a BuildSpec, instead of SRC and the options about it."),
    ] = None,
    backend: Annotated[Backend, typer.Option(help="What will serve the artefact.")] = Backend.TORCH,
    tp: TensorParallel = 1,
    pp: PipelineParallel = 1,
    dtype: DtypeOption = Dtype.AUTO,
    embedding_sharding_dim: EmbeddingShardingDim = None,
    quantization: QuantizationOption = Quantization.NONE,
    kv_cache: KvCacheOption = KvCache.AUTO,
    activation_amax: ActivationAmax = None,
    calibration: Calibration = None,
    pad_intermediate: PadIntermediate = 0,
    max_batch_size: MaxBatchSize = None,
    max_input_len: MaxInputLen = None,
    max_seq_len: MaxSeqLen = None,
    option: EngineOptions = None,
    compile_limit: TimeLimit = None,
    revision: Revision = None,
    accept_licence: AcceptLicence = None,
    token_file: TokenFile = None,
    endpoint: Endpoint = None,
    verify: Annotated[
        bool,
        typer.Option(help="Hash an artefact that is there already; --no-verify compares sizes."),
    ] = True,
    rehash: Annotated[
        bool,
        typer.Option("--rehash", help="Hash every source file, also those that look unchanged."),
    ] = False,
    progress_file: Annotated[
        Path | None,
        typer.Option(
            show_default="progress.json in the store", help="File that always holds the progress."
        ),
    ] = None,
    ca_file: CaFile = None,
    termination_message: TerminationMessage = None,
) -> None:
    """Build an artefact into a store, or find it there.

    The artefact's name is a key of everything its bytes depend on, so the same request is built
    once. A build that was killed is gone on with: downloads, calibration, finished checkpoints and
    engines are found again. The last line on stdout is the artefact's path.

    Example: llmjp build llm-jp/llm-jp-3-1.8b-instruct --store ~/llmjp-store --tp 2
    """
    from llmjp_builder.contracts.spec import Step as Steps
    from llmjp_builder.pipeline import build as run
    from llmjp_builder.sources.trust import trusting
    from llmjp_cli.progress import file_sink, reporter

    last = [Steps.FETCH]

    def remember(progress: Progress) -> None:
        last[0] = progress.step

    with failures_left(termination_message, lambda: last[0]), trusting(ca_file):
        about = {
            "backend": backend.value,
            "dtype": dtype.value,
            "quantization": quantization.value,
            "kv_cache": kv_cache.value,
            "calibration": None if calibration is None else str(calibration),
            "activation_amax": None if activation_amax is None else str(activation_amax),
            "tensor_parallel": tp,
            "pipeline_parallel": pp,
            "pad_intermediate": pad_intermediate,
            "embedding_sharding_dim": embedding_sharding_dim,
            "max_batch_size": max_batch_size,
            "max_input_len": max_input_len,
            "max_seq_len": max_seq_len,
            "options": parse_engine_options(option),
            "accepted_licence": accept_licence,
            "endpoint": endpoint,
        }
        wanted = _spec_from(context, spec) or _spec_of(context, source, revision, about)
        files = file_sink(progress_file or store / "progress.json")
        with reporter(remember, files) as show:
            result = run(
                wanted,
                store=store,
                token=token_in(token_file),
                on_progress=show,
                on_warning=lambda text: typer.echo(f"warning: {text}", err=True),
                verify=verify,
                remember_hashes=not rehash,
                compile_limit_s=compile_limit,
            )
        leave(termination_message, result.built)
    typer.echo("already there" if result.cache_hit else "built", err=True)
    typer.echo(str(result.path))


_ENGINE = ("max_batch_size", "max_input_len", "max_seq_len", "option", "compile_limit")
_IN_SPEC = (
    *_ENGINE[:-1],
    "source",
    "revision",
    "accept_licence",
    "endpoint",
    "backend",
    "tp",
    "pp",
    "dtype",
    "embedding_sharding_dim",
    "quantization",
    "kv_cache",
    "activation_amax",
    "calibration",
    "pad_intermediate",
)


def _spec_from(context: typer.Context, file: Path | None) -> BuildSpec | None:
    """The spec in `file`; None where there is no file."""
    from llmjp_builder.contracts.spec import BuildSpec
    from llmjp_builder.store.files import read_json_object

    if file is None:
        return None
    if given := [name for name in _IN_SPEC if _given(context, name)]:
        raise typer.BadParameter(f"--spec says everything; leave out {', '.join(given)}")
    return BuildSpec.from_json(read_json_object(file))


def _spec_of(
    context: typer.Context, source: str | None, revision: str | None, about: dict[str, Any]
) -> BuildSpec:
    from llmjp_builder.contracts.spec import BuildSpec
    from llmjp_builder.sources.resolve import parse_source

    if source is None:
        raise typer.BadParameter("give SRC, the folder of a checkpoint, or --spec FILE")
    given = [name for name in _ENGINE if _given(context, name)]
    if given and about["backend"] != Backend.TENSORRT:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise typer.BadParameter(f"only --backend tensorrt reads {options}")
    where = parse_source(source, revision).to_json()
    return BuildSpec.from_json({"source": where, **about})


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
