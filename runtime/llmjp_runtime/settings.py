"""Serving settings: everything about serving that is not in the artefact or its key."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmjp_builder.contracts.defaults import (
    GRPC_PORT,
    HEALTH_PORT,
    HTTP_PORT,
    KV_CACHE_FRACTION,
    MAX_QUEUE,
)

Backend = Literal["torch", "tensorrt", "pytorch", "vllm"]
"""Executors that exist."""


RequestLogLevel = Literal["info", "warning", "error", "off"]
"""Every request; those refused or failed; those that failed by our fault; none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingDefaults:
    """The llm-jp-3 model card's settings, for requests that give none."""

    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 0
    repetition_penalty: float = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    """The front model's settings, handed to it through its `config.pbtxt`."""

    artefact: Path
    """Folder with `manifest.json`; read only."""
    backend: Backend = "torch"
    max_batch_size: int | None = None
    """Largest batch; None means what the engine was built for, else 32."""
    max_queue: int = MAX_QUEUE
    """Requests that may wait beyond a full batch; more are refused."""
    max_context: int | None = None
    """Tokens of prompt and reply; None means the model's own limit."""
    device: str = "auto"
    compute_dtype: str = "auto"
    num_threads: int | None = None
    """Threads of the executor on CPU; None means all cores."""
    kv_cache_fraction: float = KV_CACHE_FRACTION
    """Part of the GPU memory left free by the weights that the cache takes (tensorrt, pytorch); of
    all GPU memory, for weights and cache together (vllm)."""
    prefix_caching: bool = True
    """Whether prompts that begin alike share their part of the cache (vllm)."""
    tensor_parallel: int = 1
    """GPUs that share each layer (pytorch, vllm; other artefacts are made for a number of them)."""
    pipeline_parallel: int = 1
    """Stages that the layers are divided over (pytorch, vllm)."""
    max_tokens: int | None = None
    """New tokens of any reply; None means the rest of the context."""
    max_reply_s: float = 3600.0
    """Time of any reply, from the request's arrival on."""
    request_log: RequestLogLevel = "info"
    """From which level on a request is logged."""
    request_log_sample: float = 1.0
    """Part of the requests that are logged, 0 to 1; errors of ours always are."""
    intake_threads: int = 2
    """Threads that parse and tokenise requests of usual size."""
    sender_threads: int = 4
    """Threads that send responses (one `send` is a blocking round trip of about 0.1 ms)."""
    response_interval_ms: float = 20.0
    """Least time between two responses of one stream; tokens that come meanwhile leave together."""
    drain_grace_s: float = 5.0
    """How long new requests are still accepted once the server is told to drain."""
    health_host: str = "127.0.0.1"
    health_port: int = HEALTH_PORT
    """Where `/readyz` and `/livez` answer."""
    triton_http: str = f"127.0.0.1:{HTTP_PORT}"
    """Where the front model reaches its own server's HTTP endpoint; set at the server's start."""
    triton_grpc: str = f"127.0.0.1:{GRPC_PORT}"
    """Its own server's gRPC endpoint, likewise."""
    tls_certificate: Path | None = None
    """The certificate of the gRPC endpoint; None if it is not encrypted."""
    defaults: SamplingDefaults = field(default_factory=SamplingDefaults)

    def to_json(self) -> str:
        """Return one line of JSON that `from_json` reads back."""
        return json.dumps(asdict(self), sort_keys=True, default=str)

    @classmethod
    def from_json(cls, text: str) -> ServingSettings:
        """Return the settings that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        values["artefact"] = Path(values["artefact"])
        certificate = values.get("tls_certificate")
        values["tls_certificate"] = None if certificate is None else Path(certificate)
        values["defaults"] = SamplingDefaults(**values["defaults"])
        return cls(**values)
