"""Defaults and limits that several parts share: custom resource, command line and runtime.

Each is written here only. Standard library only.
"""

from __future__ import annotations

from typing import Final

MAX_RANKS: Final = 256
"""Largest product of tensor and pipeline parallel: 32 nodes of 8 GPUs, far beyond what the largest
llm-jp-3 needs."""
FP8_MULTIPLE: Final = 16
"""FP8 matrix products take widths that are multiples of this."""

BATCH_SIZE: Final = 32
"""The most requests in a batch where neither the settings nor an engine say."""
VLLM_BATCH_SIZE: Final = 256
"""The same for backend vllm, whose cache is shared by as many as fit."""
ENGINE_BATCH_SIZE: Final = 128
"""The most requests in a batch that an engine is compiled for, unless asked for another number."""
MAX_QUEUE: Final = 256
"""Requests that may wait beyond those in a batch."""
KV_CACHE_FRACTION: Final = 0.9
"""Share of the GPU memory left by the weights that holds keys and values; TensorRT-LLM's default,
too."""

HTTP_PORT: Final = 8000
GRPC_PORT: Final = 8001
METRICS_PORT: Final = 8002
HEALTH_PORT: Final = 8003
