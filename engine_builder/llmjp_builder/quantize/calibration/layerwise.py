"""Calibration layer by layer: all texts pass one decoder layer after the other, saved after each.

    <work>/state.json     layers done, amax so far, checksum of the rows
    <work>/rows-0, -1     hidden states after the last layer done; the other is being written

In memory are one layer's weights and one text, however large the model and many the texts.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from llmjp_builder.contracts.errors import BadTensors, BuilderError
from llmjp_builder.contracts.spec import Step, to_pretty_json
from llmjp_builder.convert import fp8
from llmjp_builder.convert.amax import Amax
from llmjp_builder.convert.families.llama import LINEAR
from llmjp_builder.convert.source_files import SourceFiles
from llmjp_builder.quantize.calibration.decoder import (
    KEYS,
    VALUES,
    AmaxRecorder,
    DecoderLayer,
    RotaryEmbedding,
)
from llmjp_builder.quantize.calibration.hidden_states import (
    HiddenStateReader,
    HiddenStateShape,
    HiddenStateWriter,
)
from llmjp_builder.quantize.calibration.layer_weights import LayerWeights
from llmjp_builder.store.files import replace_atomically, require_free_space

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_builder.contracts.spec import Dtype
    from llmjp_builder.convert.checkpoint import SourceCheckpoint
    from llmjp_builder.progress import Reporter
    from llmjp_builder.quantize.calibration.tokens import Tokens

_STATE = "state.json"
_UNUSABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    BuilderError,
)
"""Errors from reading a state that is foreign or damaged."""


@dataclass(frozen=True, slots=True)
class CalibrationTask:
    """A model to calibrate, and the folder for intermediate results."""

    checkpoint: SourceCheckpoint
    dtype: Dtype
    """Element type of weights and activations."""
    tokens: Tokens
    device: torch.device
    work: Path
    """A folder for this task alone; its contents come from an earlier run of the same task."""

    @property
    def rows(self) -> HiddenStateShape:
        """Shape of the hidden states between layers."""
        width = self.checkpoint.config.hidden_size
        return HiddenStateShape(len(self.tokens), width, getattr(torch, self.dtype))

    def get_path(self, layers_done: int) -> Path:
        """Return the path of the hidden states after `layers_done` layers."""
        return self.work / f"rows-{layers_done % 2}"


@dataclass(frozen=True, slots=True)
class _LayerState:
    """Results after some layers."""

    layers_done: int
    checksum: int
    amax: dict[str, float] = field(default_factory=dict)
    """By name; keys and values as `model.layers.0.self_attn.k`."""

    def save(self, task: CalibrationTask) -> None:
        document = {
            "layers_done": self.layers_done,
            "checksum": self.checksum,
            "amax": self.amax,
        }
        replace_atomically(task.work / _STATE, to_pretty_json(document).encode())


@dataclass(frozen=True, slots=True)
class _LayerInputs:
    """Everything that all layers need."""

    weights: LayerWeights
    rotary: RotaryEmbedding


def calibrate_layers(task: CalibrationTask, reporter: Reporter) -> Amax:
    """Return the amax of every linear layer's input, and of all keys and values.

    Resumes after the last layer that an earlier run of the same task finished.

    Raises:
        NotEnoughDisk: the rows do not fit.
        BadTensors: the model computes something that is no number, or nothing but zeros.
        SourceChanged: the source was written to meanwhile.
    """
    with ExitStack() as stack, torch.inference_mode():
        sources = SourceFiles(stack)
        tensors, dtype = task.checkpoint.tensors, task.rows.dtype
        like = torch.empty(0, dtype=dtype, device=task.device)
        model = _LayerInputs(
            LayerWeights(tensors, sources, dtype, task.device),
            RotaryEmbedding.compute(task.checkpoint.config, task.tokens.longest, like),
        )
        state = _load_state(task) or _embed_texts(task, model.weights)
        layers, size = task.checkpoint.config.num_layers, task.rows.size
        message = f"calibrating on {len(task.tokens.texts)} texts, {len(task.tokens):,} tokens"
        total, already = layers * size, state.layers_done * size
        reporter.begin(Step.CALIBRATE, total, message, already=already)
        while state.layers_done < layers:
            state = _run_layer(task, state, model, reporter)
            sources.require_unchanged()
            state.save(task)
        reporter.end()
    return _collect_amax(state)


def _load_state(task: CalibrationTask) -> _LayerState | None:
    """Load the state of an earlier run; None if there is none or it is damaged."""
    layers = task.checkpoint.config.num_layers
    try:
        document = json.loads((task.work / _STATE).read_bytes())
        state = _LayerState(document["layers_done"], document["checksum"], document["amax"])
        if state.amax.keys() != _list_amax_names(state.layers_done):
            return None
        for name, value in state.amax.items():
            _require_quantisable(name, value, task)
        if state.layers_done != layers:
            with ExitStack() as stack:
                reader = HiddenStateReader(task.get_path(state.layers_done), task.rows, stack)
                if state.layers_done > layers or reader.compute_checksum() != state.checksum:
                    return None
    except _UNUSABLE:
        return None
    return state


def _list_amax_names(num_layers: int) -> set[str]:
    """Return the names of every amax in the first `num_layers` layers."""
    parts = (*LINEAR, KEYS, VALUES)
    return {f"model.layers.{i}.{name}" for i in range(num_layers) for name in parts}


def _embed_texts(task: CalibrationTask, weights: LayerWeights) -> _LayerState:
    """Write the hidden states before the first layer."""
    require_free_space(task.work, 2 * task.rows.size)
    with ExitStack() as stack:
        writer = HiddenStateWriter(task.get_path(0), task.rows, stack)
        for ids in task.tokens.texts:
            writer.write(weights.read_embeddings(ids))
    state = _LayerState(0, writer.checksum)
    state.save(task)
    return state


def _run_layer(
    task: CalibrationTask, before: _LayerState, model: _LayerInputs, reporter: Reporter
) -> _LayerState:
    """Run all texts through the next layer; the last layer's output is not needed or kept."""
    index, recorder = before.layers_done, AmaxRecorder()
    last = index + 1 == task.checkpoint.config.num_layers
    layer = DecoderLayer(task.checkpoint.config, model.weights.read_layer(index))
    with ExitStack() as stack:
        reader = HiddenStateReader(task.get_path(index), task.rows, stack)
        writer = None if last else HiddenStateWriter(task.get_path(index + 1), task.rows, stack)
        for begin, end in task.tokens.spans:
            rows = reader.read(begin, end).to(task.device)
            rows = layer(rows, model.rotary, recorder)
            if writer is not None:
                writer.write(rows)
            reporter.add((end - begin) * task.rows.row_bytes)
    found = {f"model.layers.{index}.{name}": value for name, value in recorder.to_dict().items()}
    for name, value in found.items():
        _require_quantisable(name, value, task)
    return _LayerState(index + 1, 0 if writer is None else writer.checksum, before.amax | found)


def _require_quantisable(name: str, value: float, task: CalibrationTask) -> None:
    try:
        fp8.compute_scale(value)
    except fp8.NotQuantisable as exc:
        raise BadTensors(
            f"{task.checkpoint.folder}: {name}: the largest activation is {value} in {task.dtype}, "
            "which has no FP8 scale; the weights are damaged, or need another element type"
        ) from exc


def _collect_amax(state: _LayerState) -> Amax:
    """Sort the amax by module; those of keys and values belong to their attention."""
    activations: dict[str, float] = {}
    kv: dict[str, dict[str, float]] = {}
    for name, value in state.amax.items():
        if name.endswith((f".{KEYS}", f".{VALUES}")):
            attention, _, letter = name.rpartition(".")
            kv.setdefault(attention, {})[letter] = value
        else:
            activations[name] = value
    return Amax(activations, kv)
