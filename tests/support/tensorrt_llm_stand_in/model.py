"""STAND-IN for the C++ backend `tensorrtllm`: the same tensors and manners, our `torch` executor.

Triton takes a folder of backends with a `model.py` for a backend written in Python, so the
`config.pbtxt` of the model `tensorrt_llm` is the one that NVIDIA's backend would get. The engine is
that of `tests.support.engine`: its rank files name the TensorRT-LLM checkpoint to run.

Kept from the real one (NVIDIA/TensorRT-LLM 1.3.0rc3, triton_backend/inflight_batcher_llm/src, as
far as the front model can see it): scalars without a last dimension, `input_lengths` and
`request_output_len` required, new ids of one beam with their number, an end id that is counted
nowhere, log probabilities of the whole reply each time, no reason for the end, a `stop` that is
answered by an empty response and forgotten where nothing runs under its id, and errors as text.
A client that leaves is never looked for: calls from model to model would not tell.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from llmjp_runtime.executor.protocol import GenerationRequest, SamplingParams, TokenEvent
from llmjp_runtime.executor.torch.executor import TorchExecutor
from llmjp_runtime.front.parent_watch import exit_with_server

RANK = "OMPI_COMM_WORLD_RANK"
"""Set by Open MPI's mpirun, and by the stand-in for it."""
POISON = 3
"""A prompt of this id alone is answered with an error (the package's POISON)."""


class TritonPythonModel:
    """Triton's entry points."""

    def initialize(self, args: dict[str, str]) -> None:
        exit_with_server()
        if os.environ.get(RANK, "0") != "0":
            # As in leader mode: the other ranks never finish loading.
            threading.Event().wait()
        parameters = json.loads(args["model_config"])["parameters"]
        value = {key: parameters[key]["string_value"] for key in parameters}
        assert value["gpt_model_type"] == "inflight_fused_batching"
        for key in ("tokenizer_dir", "xgrammar_tokenizer_info_path", "guided_decoding_backend"):
            assert key in value
        engine = Path(value["gpt_model_path"])
        build = json.loads((engine / "config.json").read_text())["build_config"]
        stand_in = json.loads((engine / "rank0.engine").read_text())
        self._broken = stand_in["broken"]
        self._executor = TorchExecutor.load(
            Path(stand_in["checkpoint"]),
            max_batch_size=build["max_batch_size"],
            max_context=build["max_seq_len"],
            num_threads=1,
        )
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._running: dict[str, str] = {}

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._take(request, sender)
            except Exception as exc:  # noqa: BLE001  as the real one: any error is the reply
                sender.send(
                    pb_utils.InferenceResponse(error=pb_utils.TritonError(str(exc))),
                    flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
                )

    def _take(self, request: Any, sender: Any) -> None:
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        name = request.request_id()
        if inputs.get("stop", np.array([False])).reshape(-1)[0]:
            with self._lock:
                running = self._running.get(name)
            if running is not None:
                self._executor.cancel(running)
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            return
        assert {"output_ids", "sequence_length"} <= set(request.requested_output_names())
        assert inputs["streaming"].all()
        assert inputs["exclude_input_in_output"].all()
        prompt = tuple(inputs["input_ids"].reshape(-1).tolist())
        if self._broken or prompt == (POISON,):
            raise RuntimeError("Executor failed process requestId 1\n1 0x7f0 a stack trace")
        assert inputs["input_lengths"].shape == (1,)
        key = f"s{next(self._numbers)}"
        with self._lock:
            self._running[name] = key
        reply = Reply(sender)

        def on_event(event: TokenEvent) -> None:
            if event.final:
                with self._lock:
                    self._running.pop(name, None)
            reply.send(event)

        self._executor.submit(
            GenerationRequest(
                request_id=key,
                prompt_ids=prompt,
                sampling=sampling(inputs),
                log_probs=bool(inputs["return_log_probs"].reshape(-1)[0]),
            ),
            on_event,
        )

    def finalize(self) -> None:
        self._executor.close()


class Reply:
    """One request's responses."""

    def __init__(self, sender: Any) -> None:
        self._sender = sender
        self._log_probs: list[float] = []

    def send(self, event: TokenEvent) -> None:
        if event.error is not None:
            self._sender.send(
                pb_utils.InferenceResponse(error=pb_utils.TritonError(event.error)),
                flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
            )
            return
        ids = np.array([[event.token_ids]], np.int32).reshape(1, 1, -1)
        tensors = [
            pb_utils.Tensor("output_ids", ids),
            pb_utils.Tensor("sequence_length", np.array([[ids.size]], np.int32)),
        ]
        if event.log_probs is not None:
            self._log_probs += event.log_probs
            row = np.array([[self._log_probs]], np.float32)
            tensors.append(pb_utils.Tensor("output_log_probs", row))
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if event.final else 0
        self._sender.send(pb_utils.InferenceResponse(tensors), flags=flags)


def sampling(inputs: dict[str, Any]) -> SamplingParams:
    """What the tensors ask for, as TensorRT-LLM reads them."""

    def scalar(name: str, default: Any) -> Any:
        return inputs[name].reshape(-1)[0].item() if name in inputs else default

    bias = inputs.get("embedding_bias", np.zeros((1, 0))).reshape(-1)
    stops = words(inputs.get("stop_words_list"))
    ends = {scalar("end_id", -1), *(token for (token,) in stops)} - {-1}
    return SamplingParams(
        max_tokens=scalar("request_output_len", 0),
        min_tokens=scalar("min_tokens", 0),
        temperature=scalar("temperature", 1.0),
        top_k=scalar("runtime_top_k", 0),
        top_p=scalar("runtime_top_p", 0.0),
        repetition_penalty=scalar("repetition_penalty", 1.0),
        presence_penalty=scalar("presence_penalty", 0.0),
        frequency_penalty=scalar("frequency_penalty", 0.0),
        seed=scalar("seed", 0),
        end_ids=frozenset(ends),
        bad_words=words(inputs.get("bad_words_list")),
        embedding_bias=tuple((int(i), float(bias[i])) for i in np.flatnonzero(bias)),
    )


def words(table: Any) -> tuple[tuple[int, ...], ...]:
    """The words of a list [1, 2, N]: ids over end offsets."""
    if table is None:
        return ()
    ids, ends = table.reshape(2, -1).tolist()
    offsets = [0, *(end for end in ends if end != -1)]
    return tuple(tuple(ids[a:b]) for a, b in itertools.pairwise(offsets))
