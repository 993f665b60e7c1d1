"""The build that a model asks for, named by a digest that is known before anything runs. Pure.

An artefact's key depends on what calibration finds and on what `auto` turns out to be, so it is
known when the artefact is there. Until then a *request* stands for it: everything in the spec that
decides the bytes, with the source pinned. Equal requests are one build (docs/decisions).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.spec import BuildSpec, Kind, Source, to_canonical_json
from llmjp_operator.decisions import BuildRequest
from llmjp_operator.names import CALIBRATION_FILE, SOURCE_FOLDER, compute_digest
from llmjp_operator.runtimes import RUNTIMES

if TYPE_CHECKING:
    from llmjp_builder.contracts.spec import Resolution
    from llmjp_operator.api import Model, Spec


def make_request(model: Model, resolution: Resolution, calibration: str | None) -> BuildRequest:
    """Return the build of a model whose source is pinned.

    Args:
        model: what is asked for.
        resolution: its source.
        calibration: digest of the texts; None for the built-in ones.
    """
    spec = _make_build_spec(model.spec, resolution)
    decisive = _list_decisive(spec, resolution, calibration)
    if spec.backend.kind is Kind.ENGINE:
        runtime = RUNTIMES[model.spec.runtime.version]
        decisive["gpu_product"] = model.spec.hardware.gpu_product
        decisive["tensorrt_llm"], decisive["tensorrt"] = runtime.tensorrt_llm, runtime.tensorrt
    return BuildRequest(digest=_compute_digest(decisive), spec=spec, gpus=model.spec.build_gpus)


def make_checkpoint_request(
    model: Model, resolution: Resolution, calibration: str | None
) -> BuildRequest:
    """Return the build of what a model's engine is compiled from; see `make_request`.

    Nothing that the compiler is told is part of it: engines with other limits, for other GPUs or
    by other compilers share a checkpoint.
    """
    whole = _make_build_spec(model.spec, resolution)
    spec = replace(whole, max_batch_size=None, max_input_len=None, max_seq_len=None, options={})
    decisive = _list_decisive(spec, resolution, calibration) | {"kind": "checkpoint"}
    return BuildRequest(
        digest=_compute_digest(decisive),
        spec=spec,
        gpus=model.spec.calibration_gpus,
        until_checkpoint=True,
    )


def _list_decisive(
    spec: BuildSpec, resolution: Resolution, calibration: str | None
) -> dict[str, Any]:
    decisive = spec.to_json()
    for name in ("source", "endpoint", "accepted_licence", "backend", "calibration"):
        decisive.pop(name, None)
    decisive |= {"kind": spec.backend.kind.value, "source": resolution.digest}
    if calibration is not None:
        decisive["calibration"] = calibration
    return decisive


def _compute_digest(decisive: dict[str, Any]) -> str:
    return compute_digest(to_canonical_json(decisive))


def _make_build_spec(spec: Spec, resolution: Resolution) -> BuildSpec:
    engine, hub = spec.engine, spec.source.hugging_face
    kind = engine.backend.kind
    compiled = kind is Kind.ENGINE
    layout = engine.layout.undivided() if kind is Kind.UNIFIED else engine.layout
    texts = engine.calibration is not None and engine.calibration.config_map_ref is not None
    return BuildSpec(
        source=_pin_source(spec, resolution),
        endpoint=None if hub is None else hub.endpoint,
        accepted_licence=spec.licence.accepted,
        backend=engine.backend,
        **layout.to_fields(),
        calibration=CALIBRATION_FILE if texts else None,
        max_batch_size=engine.max_batch_size if compiled else None,
        max_input_len=engine.max_input_len if compiled else None,
        max_seq_len=engine.max_seq_len if compiled else None,
        options=engine.build_options if compiled else {},
    )


def _pin_source(spec: Spec, resolution: Resolution) -> Source:
    volume = spec.source.persistent_volume_claim
    if volume is not None:
        return Source(path=f"{SOURCE_FOLDER}/{volume.path}".rstrip("/"))
    assert spec.source.hugging_face is not None, "exactly one is there"
    return Source(repository=spec.source.hugging_face.repository, revision=resolution.revision)
