"""`llmjp build`. Nothing heavy is imported before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from llmjp_builder.contracts.spec import Backend, LayoutOptions
from llmjp_cli.engine_option_values import parse_engine_options
from llmjp_cli.option_groups import expand_groups, find_given_flags
from llmjp_cli.options import (
    ENGINE,
    LAYOUT,
    Calibration,
    CalibrationOptions,
    Engine,
    EngineOptions,
    HubSource,
    Layout,
    SourceOptions,
    TerminationMessage,
)
from llmjp_cli.termination import reporting_failures, write_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.contracts.spec import BuildSpec, Progress
    from llmjp_builder.pipeline import BuildResult


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The options that a BuildSpec also has."""

    source: str | None
    backend: Backend
    layout: LayoutOptions
    calibration: CalibrationOptions
    engine: EngineOptions
    hub: SourceOptions


StoreFolder = Annotated[Path, typer.Option(help="The store's folder; created if missing.")]
OptionalSource = Annotated[
    str | None,
    typer.Argument(
        metavar="[SRC]",
        help="Folder of a Hugging Face checkpoint with its tokenizer, or OWNER/NAME on a hub.",
    ),
]
SpecFile = Annotated[
    Path | None,
    typer.Option(help="JSON file with a BuildSpec, instead of SRC and its options."),
]
ServingBackend = Annotated[Backend, typer.Option(help="What will serve the artefact.")]
Verify = Annotated[
    bool,
    typer.Option(help="Hash an artefact that exists already; --no-verify compares sizes."),
]
Rehash = Annotated[
    bool,
    typer.Option("--rehash", help="Hash every source file, even those that look unchanged."),
]
UntilCheckpoint = Annotated[
    Literal["artefact", "checkpoint"],
    typer.Option(
        "--until", help="Where to end; checkpoint: what an engine is compiled from, without a GPU."
    ),
]
FromCheckpoint = Annotated[
    str | None,
    typer.Option(
        "--from-checkpoint",
        metavar="KEY",
        help="Compile the engine of this checkpoint in the store; its source is not needed.",
    ),
]
ProgressFile = Annotated[
    Path | None,
    typer.Option(
        show_default="progress.json in the store", help="File that holds the latest progress."
    ),
]


@expand_groups
def build_artefact(
    context: typer.Context,
    store: StoreFolder,
    source: OptionalSource = None,
    spec: SpecFile = None,
    backend: ServingBackend = Backend.TORCH,
    *,
    layout: Layout,
    calibration: Calibration,
    engine: Engine,
    hub: HubSource,
    verify: Verify = True,
    rehash: Rehash = False,
    until: UntilCheckpoint = "artefact",
    from_checkpoint: FromCheckpoint = None,
    progress_file: ProgressFile = None,
    termination_message: TerminationMessage = None,
) -> None:
    """Build an artefact into a store, or find it there.

    The artefact's name is a key of everything that its bytes depend on, so the same request is
    built once. An interrupted build resumes: downloads, calibration, finished checkpoints and
    engines are reused. The last line on stdout is the artefact's path.

    An engine can be made in two steps: --until checkpoint on any machine, then --from-checkpoint
    on one with the GPU. The checkpoint's key is the name of its folder.

    Example: llmjp build llm-jp/llm-jp-3-1.8b-instruct --store ~/llmjp-store --tp 2
    """
    from llmjp_builder.sources.trust import trusting

    options = BuildOptions(source, backend, layout, calibration, engine, hub)
    tracker = StepTracker()
    with reporting_failures(termination_message, lambda: tracker.step), trusting(hub.ca_file):
        file = progress_file or store / "progress.json"
        if from_checkpoint is None:
            wanted = _read_spec(context, spec) or _build_spec(context, options)
            checks = Checks(verify=verify, rehash=rehash, until_checkpoint=until == "checkpoint")
            result = _run_build(wanted, options, store, file, tracker, checks)
        else:
            limits = _read_limits(context, spec, options)
            result = _compile_checkpoint(
                from_checkpoint, limits, options, store, file, tracker, verify=verify
            )
        write_message(termination_message, result.built)
    typer.echo("already there" if result.cache_hit else "built", err=True)
    typer.echo(str(result.path))


@dataclass(frozen=True, slots=True)
class Checks:
    """What is read again, and where the build ends."""

    verify: bool
    rehash: bool
    until_checkpoint: bool


class StepTracker:
    """Remembers the step that a build is in."""

    def __init__(self) -> None:
        from llmjp_builder.contracts.spec import Step

        self.step = Step.FETCH

    def __call__(self, progress: Progress, /) -> None:
        """Note one value of progress."""
        self.step = progress.step


def _run_build(
    spec: BuildSpec,
    options: BuildOptions,
    store: Path,
    progress_file: Path,
    tracker: StepTracker,
    checks: Checks,
) -> BuildResult:
    from llmjp_builder.pipeline import build
    from llmjp_cli.progress import build_file_sink, open_reporter

    with open_reporter(tracker, build_file_sink(progress_file)) as report:
        return build(
            spec,
            store=store,
            token=options.hub.read_token(),
            on_progress=report,
            on_warning=lambda text: typer.echo(f"warning: {text}", err=True),
            verify=checks.verify,
            remember_hashes=not checks.rehash,
            compile_limit_s=options.engine.compile_limit_s,
            until_checkpoint=checks.until_checkpoint,
        )


def _compile_checkpoint(
    key: str,
    limits: Mapping[str, Any],
    options: BuildOptions,
    store: Path,
    progress_file: Path,
    tracker: StepTracker,
    *,
    verify: bool,
) -> BuildResult:
    from llmjp_builder.pipeline import compile_checkpoint
    from llmjp_cli.progress import build_file_sink, open_reporter

    with open_reporter(tracker, build_file_sink(progress_file)) as report:
        return compile_checkpoint(
            key,
            store=store,
            limits=limits,
            on_progress=report,
            on_warning=lambda text: typer.echo(f"warning: {text}", err=True),
            verify=verify,
            compile_limit_s=options.engine.compile_limit_s,
        )


def _read_limits(
    context: typer.Context, file: Path | None, options: BuildOptions
) -> dict[str, Any]:
    """Return what the compiler is told; of a spec only that, as the rest is settled."""
    settled = ["source", *LAYOUT.rows, "activation_amax", "calibration", *_HUB_IN_SPEC]
    if given := find_given_flags(context, [*settled, "until"]):
        raise typer.BadParameter(
            f"--from-checkpoint has these settled; leave out {', '.join(given)}"
        )
    spec = _read_spec(context, file)
    if spec is not None:
        return {
            "max_batch_size": spec.max_batch_size,
            "max_input_len": spec.max_input_len,
            "max_seq_len": spec.max_seq_len,
            "options": dict(spec.options),
        }
    engine = options.engine
    return {
        "max_batch_size": engine.max_batch_size,
        "max_input_len": engine.max_input_len,
        "max_seq_len": engine.max_seq_len,
        "options": parse_engine_options(engine.options),
    }


_HUB_IN_SPEC = ["revision", "accepted_licence", "endpoint"]
_ENGINE_IN_SPEC = [name for name in ENGINE.rows if name != "compile_limit_s"]
_IN_SPEC = [
    "source",
    "backend",
    *LAYOUT.rows,
    "activation_amax",
    "calibration",
    *_ENGINE_IN_SPEC,
    *_HUB_IN_SPEC,
]


def _read_spec(context: typer.Context, file: Path | None) -> BuildSpec | None:
    """Return the spec in `file`; None where there is no file."""
    from llmjp_builder.contracts.spec import BuildSpec
    from llmjp_builder.store.files import read_json_object

    if file is None:
        return None
    if given := find_given_flags(context, _IN_SPEC):
        raise typer.BadParameter(f"--spec replaces these options; leave out {', '.join(given)}")
    return BuildSpec.from_json(read_json_object(file))


def _build_spec(context: typer.Context, options: BuildOptions) -> BuildSpec:
    from llmjp_builder.contracts.spec import BuildSpec
    from llmjp_builder.sources.pinning import parse_source

    if options.source is None:
        raise typer.BadParameter("give SRC, the folder of a checkpoint, or --spec FILE")
    given = find_given_flags(context, list(ENGINE.rows))
    if given and options.backend != Backend.TENSORRT:
        raise typer.BadParameter(f"only --backend tensorrt reads {', '.join(given)}")
    engine, hub, texts = options.engine, options.hub, options.calibration
    return BuildSpec.from_json(
        {
            "source": parse_source(options.source, hub.revision).to_json(),
            "endpoint": hub.endpoint,
            "accepted_licence": hub.accepted_licence,
            "backend": options.backend.value,
            **options.layout.to_fields(),
            "calibration": _format_path(texts.calibration),
            "activation_amax": _format_path(texts.activation_amax),
            "max_batch_size": engine.max_batch_size,
            "max_input_len": engine.max_input_len,
            "max_seq_len": engine.max_seq_len,
            "options": parse_engine_options(engine.options),
        }
    )


def _format_path(path: Path | None) -> str | None:
    return None if path is None else str(path)
