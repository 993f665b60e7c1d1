"""The part of TensorRT-LLM's LLM API that the executor `pytorch` uses; its only importer.

Documented in NVIDIA/TensorRT-LLM, docs/source/llm-api; signatures are held by its
tests/unittest/api_stability/references*/{llm,sampling_params,request_output,completion_output}.yaml.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from llmjp_runtime.errors import TritonMissing


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmApi:
    """Classes of `tensorrt_llm`, by their names there."""

    LLM: Any
    SamplingParams: Any
    KvCacheConfig: Any
    RequestError: Any
    """Raised when one request fails and the others may continue."""


def load_api() -> LlmApi:
    """Import the installed LLM API.

    Raises:
        TritonMissing: TensorRT-LLM is not installed.
    """
    try:
        package = importlib.import_module("tensorrt_llm")
        llmapi = importlib.import_module("tensorrt_llm.llmapi")
    except ImportError as exc:
        raise TritonMissing(
            f"backend pytorch needs TensorRT-LLM, which cannot be imported here ({exc}): run "
            "inside NVIDIA's Triton image for it"
        ) from exc
    return LlmApi(
        LLM=package.LLM,
        SamplingParams=package.SamplingParams,
        KvCacheConfig=llmapi.KvCacheConfig,
        RequestError=llmapi.RequestError,
    )
