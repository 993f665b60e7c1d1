"""Artefacts and real tritonservers for tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llmjp_builder.contracts.spec import BuildSpec, Source
from llmjp_builder.pipeline import build
from llmjp_runtime.artefact import detect_backend
from llmjp_runtime.server.endpoints import Endpoints
from llmjp_runtime.server.preflight import find_free_ports
from llmjp_runtime.server.process import TritonServer
from llmjp_runtime.settings import ServingSettings
from tests.support.shared import ROOT

EXAMPLE = ROOT / "examples" / "tiny-model" / "checkpoint"
START_TIMEOUT_S = 180.0


def build_artefact(checkpoint: Path, store: Path, tensor_parallel: int = 2) -> Path:
    """The artefact of a checkpoint, as `llmjp build` makes it."""
    spec = BuildSpec(source=Source(path=str(checkpoint)), tensor_parallel=tensor_parallel)
    return build(spec, store=store).path


@contextlib.contextmanager
def serving(artefact: Path, log: Path, **settings: object) -> Iterator[TritonServer]:
    """A ready tritonserver over the artefact, on free ports; its backend is that of its kind."""
    if "backend" not in settings:
        settings["backend"] = detect_backend(artefact)
    http, grpc, metrics, health = find_free_ports(4)
    base = ServingSettings(artefact=artefact, health_port=health, num_threads=1)
    server = TritonServer(
        replace(base, **settings),  # type: ignore[arg-type]
        Endpoints(http_port=http, grpc_port=grpc, metrics_port=metrics),
        log=log,
    )
    with server:
        server.wait_ready(START_TIMEOUT_S)
        yield server
