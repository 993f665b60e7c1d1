"""The tokenizer and the executor of an artefact, loaded as the serving settings ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from llmjp_builder.contracts.defaults import BATCH_SIZE
from llmjp_runtime.artefact import find_tokenizer
from llmjp_runtime.engine.proxy import EngineProxy
from llmjp_runtime.text.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from llmjp_runtime.executor.protocol import Executor
    from llmjp_runtime.settings import ServingSettings


def load_tokenizer(settings: ServingSettings) -> TextTokenizer:
    """Load the artefact's own tokenizer."""
    return TextTokenizer.load(find_tokenizer(settings.artefact))


def load_executor(settings: ServingSettings, tokenizer: TextTokenizer) -> Executor:
    """Load and start the executor of the settings' backend."""
    match settings.backend:
        case "torch" | "vllm":
            return EngineProxy.start(settings, tokenizer.num_entries)
        case "tensorrt":
            return _load_tensorrt_executor(settings)
        case "pytorch":
            return _load_pytorch_executor(settings)
        case unknown:
            assert_never(unknown)


def _load_tensorrt_executor(settings: ServingSettings) -> Executor:
    from llmjp_runtime.executor.tensorrt.engine_config import EngineConfig
    from llmjp_runtime.executor.tensorrt.executor import TensorRTExecutor
    from llmjp_runtime.executor.tensorrt.model_config import ENGINE_MODEL_NAME
    from llmjp_runtime.front.grpc_peer import PeerModel

    engine = EngineConfig.load(settings.artefact)
    limits = engine.narrow_limits(settings.max_batch_size, settings.max_context)
    return TensorRTExecutor(PeerModel(ENGINE_MODEL_NAME, settings), engine, limits)


def _load_pytorch_executor(settings: ServingSettings) -> Executor:
    from llmjp_runtime.executor.pytorch.executor import PyTorchExecutor
    from llmjp_runtime.executor.pytorch.llm_api import load_api

    return PyTorchExecutor.load(
        load_api(),
        settings.artefact,
        tensor_parallel=settings.tensor_parallel,
        pipeline_parallel=settings.pipeline_parallel,
        max_batch_size=settings.max_batch_size or BATCH_SIZE,
        max_context=settings.max_context,
        kv_cache_fraction=settings.kv_cache_fraction,
    )
