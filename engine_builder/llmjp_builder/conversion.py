"""A Hugging Face checkpoint becomes a TensorRT-LLM checkpoint: the entry points of `convert`.

`prepare` reads headers only and refuses whatever cannot be converted; `write` does the work, and
`convert` does it into a folder that appears whole or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llmjp_builder.checkpoint import Checkpoint, read_checkpoint
from llmjp_builder.convert.config_json import config_json
from llmjp_builder.convert.layout import Layout, layout
from llmjp_builder.convert.plan import Plan, plan
from llmjp_builder.disk import require_free, sync_directory, write_durably
from llmjp_builder.spec import Step, pretty_json
from llmjp_builder.workfolder import new_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmjp_builder.progress import Reporter

CONVERTER_REVISION = "1"
"""Part of every artefact's key: raise it with any change that alters a single output byte."""

_METADATA_BYTES = 1 << 20
"""What a folder and its small files take beside the tensors, generously."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion that was found possible; nothing is written yet."""

    checkpoint: Checkpoint
    layout: Layout
    plan: Plan

    @property
    def bytes_per_rank(self) -> tuple[int, ...]:
        """Bytes of tensors, by rank."""
        return tuple(file.size - len(file.header) for file in self.plan.files)


def prepare(
    source: Path,
    *,
    dtype: Literal["auto", "bfloat16", "float16"] = "auto",
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    embedding_sharding_dim: int | None = None,
) -> Conversion:
    """The conversion of the checkpoint in the folder `source`, planned from its headers.

    Raises:
        BadInput: the checkpoint is damaged or does not fit its config.json.
        Unsupported: another architecture, or one that cannot be divided so.
        InvalidSpec: an option's value fits no model.
    """
    checkpoint = read_checkpoint(source)
    resolved = layout(
        checkpoint.config,
        dtype=dtype,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        embedding_sharding_dim=embedding_sharding_dim,
    )
    planned = plan(checkpoint.tensors, checkpoint.config, resolved, source)
    return Conversion(checkpoint, resolved, planned)


def write(conversion: Conversion, directory: Path, on_bytes: Callable[[int], None]) -> None:
    """Write rank files and config.json into `directory`, which exists; durable on return.

    Raises:
        NotEnoughDisk: it would not fit, or did not.
        BadTensors: a value does not fit the new dtype.
        SourceChanged: the source was written to meanwhile.
    """
    from llmjp_builder.convert.execute import execute

    require_free(directory, conversion.plan.size + _METADATA_BYTES)
    execute(conversion.plan, directory, on_bytes)
    document = config_json(conversion.checkpoint.config, conversion.layout)
    write_durably(directory / "config.json", pretty_json(document).encode())
    sync_directory(directory)


def convert(conversion: Conversion, out: Path, reporter: Reporter) -> None:
    """Write the checkpoint folder `out`, which must not exist; it appears whole or not at all.

    Raises:
        OutputExists: `out` is there already, or is being written by another process.
        BuilderError: as `write`.
    """
    with new_folder(out) as folder:
        reporter.begin(Step.CONVERT, conversion.plan.transfer_bytes, f"writing {out}")
        write(conversion, folder, reporter.add)
    reporter.end()
