"""Conversion of a Hugging Face checkpoint: the entry points of `convert`.

`prepare_ranks` reads headers only and refuses whatever cannot be converted; `write_conversion` does
the work, and `convert_checkpoint` does it into a folder that appears whole or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.spec import Kind, Step, to_pretty_json
from llmjp_builder.convert.checkpoint import SourceCheckpoint, read_checkpoint
from llmjp_builder.convert.checkpoint_config import render_checkpoint_config
from llmjp_builder.convert.layout import Layout, resolve_layout
from llmjp_builder.convert.planner import plan_conversion
from llmjp_builder.store.files import (
    get_regular_file_size,
    new_folder,
    os_errors,
    require_free_space,
    sync_directory,
    write_durably,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from llmjp_builder.contracts.spec import LayoutOptions
    from llmjp_builder.convert.amax import Amax
    from llmjp_builder.convert.conversion_plan import ConversionPlan
    from llmjp_builder.progress import Reporter

CONVERTER_REVISION = "1"
"""Part of every artefact's key: raise it with any change that alters a single output byte."""

_METADATA_BYTES = 1 << 20
"""Generous estimate for the folder and its small files beside the tensors."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion that passed all checks; nothing is written yet."""

    checkpoint: SourceCheckpoint
    kind: Kind
    layout: Layout
    plan: ConversionPlan
    documents: Mapping[str, Mapping[str, Any]]
    """JSON objects beside the tensors, by file name."""
    copied: tuple[str, ...] = ()
    """Files of the source that are copied unchanged."""
    revision: str = CONVERTER_REVISION
    """Part of the key; another one where these documents were once written otherwise."""

    @property
    def bytes_per_rank(self) -> tuple[int, ...]:
        """Bytes of tensors by rank; one total where the checkpoint is not sharded."""
        sizes = tuple(file.size - len(file.header) for file in self.plan.files)
        return (sum(sizes),) if self.kind is Kind.UNIFIED else sizes

    def digest_calibration(self, amax: Amax | None) -> str | None:
        """Return the digest of what the result takes from `amax`; None if it takes nothing."""
        scales = [constant.scale for constant in self.plan.constants]
        return amax.digest_scales(scales) if amax is not None and scales else None


def prepare_ranks(source: Path, options: LayoutOptions) -> Conversion:
    """Plan the conversion to a TensorRT-LLM checkpoint from the headers in `source`.

    Raises:
        BadInput: the checkpoint is damaged or does not fit its config.json.
        UnsupportedRequest: another architecture, or one that cannot be divided so.
        InvalidSpec: the options contradict each other.
    """
    checkpoint = read_checkpoint(source)
    resolved = resolve_layout(checkpoint.config, options)
    planned = plan_conversion(checkpoint.tensors, checkpoint.config, resolved, source)
    document = render_checkpoint_config(checkpoint.config, resolved)
    return Conversion(checkpoint, Kind.RANKS, resolved, planned, {"config.json": document})


def write_conversion(
    conversion: Conversion,
    directory: Path,
    on_bytes: Callable[[int], None],
    amax: Amax | None = None,
) -> None:
    """Write all files into `directory`, which exists; durable on return.

    Args:
        conversion: what to write.
        directory: where.
        on_bytes: called with the number of bytes just written, from several threads.
        amax: from calibration; FP8 needs it.

    Raises:
        NotEnoughDisk: it would not fit, or did not.
        BadTensors: a value does not fit the new dtype, or FP8.
        SourceChanged: the source was written to meanwhile.
    """
    from llmjp_builder.convert.execution import execute_plan

    folder = conversion.checkpoint.folder
    extra = sum(get_regular_file_size(folder / name) for name in conversion.copied)
    require_free_space(directory, conversion.plan.size + extra + _METADATA_BYTES)
    execute_plan(conversion.plan, directory, on_bytes, amax)
    for name, document in conversion.documents.items():
        write_durably(directory / name, to_pretty_json(document).encode())
    for name in conversion.copied:
        with os_errors(folder / name):
            data = (folder / name).read_bytes()
        write_durably(directory / name, data)
    sync_directory(directory)


def convert_checkpoint(
    conversion: Conversion, out: Path, reporter: Reporter, amax: Amax | None = None
) -> None:
    """Write the checkpoint folder `out`, which must not exist; it appears whole or not at all.

    Raises:
        OutputExists: `out` is there already, or is being written by another process.
        BuilderError: as `write_conversion`.
    """
    with new_folder(out) as folder:
        reporter.begin(Step.CONVERT, conversion.plan.transfer_bytes, f"writing {out}")
        write_conversion(conversion, folder, reporter.add, amax)
    reporter.end()
