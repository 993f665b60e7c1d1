"""What serving costs on a GPU: client -> gRPC -> Triton -> engine against the engine alone.

Makes a checkpoint of a shape with random weights, builds the artefact, and sends waves of requests
(so many at once, a fixed number of ids in and out, greedy) in turn to the bare engine and, by our
client from several processes, through Triton, with text in every response. One unattended run,
progress on stderr, one JSON document on stdout. It needs one GPU with room for two engines.

    python -m bench.gpu.serve --backend vllm --shape 1.8b [--quantization fp8] --tokenizer FOLDER
    python -m bench.gpu.serve --backend torch --shape 1.8b --tokenizer FOLDER

Without a GPU it can be rehearsed: --layers 2 --at-once 1,4 --rounds 1 --reply 16.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.checkpoints import tensors
from bench.gpu.wave import Wave, describe, merge
from llmjp_builder.contracts.spec import Backend, BuildSpec, Source
from llmjp_builder.pipeline import build
from llmjp_builder.planning.models import find_model_by_size
from llmjp_runtime.server.endpoints import Endpoints
from llmjp_runtime.server.preflight import find_free_ports
from llmjp_runtime.server.process import TritonServer
from llmjp_runtime.settings import ServingSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmjp_builder.convert.model_config import ModelConfig

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-model" / "checkpoint"


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def generate_checkpoint(folder: Path, config: ModelConfig, tokenizer: Path) -> None:
    """Write a Hugging Face checkpoint of that shape, with small random weights."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    listed = tensors(
        config.hidden_size,
        config.intermediate_size,
        config.num_layers,
        config.vocab_size,
        stored="BF16",
        kv=config.num_kv_heads * config.head_size,
    )
    torch.manual_seed(0)
    weights = {}
    for tensor in listed:
        norm = len(tensor.shape) == 1
        values = (
            torch.ones(tensor.shape) if norm else torch.randn(tensor.shape, device=device) * 0.02
        )
        weights[tensor.name] = values.to(torch.bfloat16).cpu()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    document = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(document))
    for name in TOKENIZER_FILES:
        shutil.copy(tokenizer / name, folder / name)


class Worker:
    """A process of `bench.gpu.wave` that runs waves as it is told."""

    def __init__(self, kind: str, options: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.gpu.wave", kind, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == {"ready": True}

    def _read(self) -> Any:
        """Return the next line that is ours: engines print, too."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        raise SystemExit(f"a worker ended with {self._process.wait()}")

    def start(self, order: dict[str, Any]) -> None:
        """Have a wave begin."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def finish(self) -> list[list[tuple[float, int]]]:
        """Return what arrived, once the wave is over."""
        replies: list[list[tuple[float, int]]] = self._read()
        return replies

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def run_wave(workers: Sequence[Worker], at_once: int) -> Wave:
    """Run one wave, divided over the workers, and return what came when."""
    shares = [at_once // len(workers) + (i < at_once % len(workers)) for i in range(len(workers))]
    busy = [(worker, share) for worker, share in zip(workers, shares, strict=True) if share]
    start = time.monotonic() + 0.2
    for worker, share in busy:
        worker.start({"count": share, "at": start})
    return merge(start, [reply for worker, _ in busy for reply in worker.finish()])


def measure(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    config = find_model_by_size(arguments.shape).config
    if arguments.layers:
        config = replace(config, num_layers=arguments.layers)
    source = work / "source"
    started = time.monotonic()
    say(f"writing a checkpoint of shape {arguments.shape}")
    generate_checkpoint(source, config, arguments.tokenizer)
    spec = BuildSpec(
        source=Source(path=str(source)),
        backend=Backend(arguments.backend),
        quantization=arguments.quantization,
    )
    say("building")
    artefact = build(spec, store=work / "store").path
    built_s = time.monotonic() - started
    at_once = [int(n) for n in arguments.at_once.split(",")]
    shape = {"prompt": arguments.prompt, "reply": arguments.reply, "vocab": config.vocab_size}
    with ExitStack() as stack:
        server = start_server(arguments, artefact, max(at_once), work)
        stack.enter_context(server)
        wait_ready(server, work)
        say("the server is ready; starting the bare engine")
        bare = Worker(
            arguments.backend,
            {
                **shape,
                "artefact": str(artefact),
                "batch": max(at_once),
                "context": arguments.prompt + arguments.reply,
                "memory": arguments.memory_fraction,
            },
        )
        stack.callback(bare.close)
        clients = []
        for _ in range(min(arguments.clients, max(at_once))):
            clients.append(Worker("client", {**shape, "endpoint": server.grpc_endpoint}))
            stack.callback(clients[-1].close)
        results = [compare(bare, clients, n, arguments.rounds) for n in at_once]
    return {
        "backend": arguments.backend,
        "shape": arguments.shape,
        "layers": config.num_layers,
        "quantization": arguments.quantization,
        "prompt": arguments.prompt,
        "reply": arguments.reply,
        "clients": arguments.clients,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": list_versions(arguments.backend),
        "checkpoint_and_build_s": round(built_s, 1),
        "results": results,
    }


def start_server(
    arguments: argparse.Namespace, artefact: Path, batch: int, work: Path
) -> TritonServer:
    http, grpc, metrics, health = find_free_ports(4)
    settings = ServingSettings(
        artefact=artefact,
        backend=arguments.backend,
        max_batch_size=batch,
        max_context=arguments.prompt + arguments.reply,
        kv_cache_fraction=arguments.memory_fraction,
        prefix_caching=False,
        health_port=health,
        **({"response_interval_ms": arguments.interval} if arguments.interval is not None else {}),
    )
    endpoints = Endpoints(http_port=http, grpc_port=grpc, metrics_port=metrics)
    return TritonServer(settings, endpoints, log=work / "server.log")


def wait_ready(server: TritonServer, work: Path) -> None:
    try:
        server.wait_ready(600)
    except BaseException:
        sys.stderr.write((work / "server.log").read_text(errors="replace")[-6000:])
        raise


def compare(bare: Worker, clients: Sequence[Worker], at_once: int, rounds: int) -> dict[str, Any]:
    """Return the medians of alternating waves, after one of each that does not count."""
    waves: dict[str, list[Wave]] = {"bare": [], "served": []}
    for i in range(rounds + 1):
        for name, workers in (("bare", [bare]), ("served", clients)):
            wave = run_wave(workers, at_once)
            say(f"{at_once:4d} {name:6s} {wave.tokens_per_s:9.0f} tokens/s")
            if i:
                waves[name].append(wave)
    found = {name: asdict(describe(each)) for name, each in waves.items()}
    ratios = [b.tokens_per_s / a.tokens_per_s for a, b in zip(*waves.values(), strict=True)]
    return {"at_once": at_once, "ratio": round(statistics.median(ratios), 3), **found}


def list_versions(backend: str) -> dict[str, str]:
    from importlib.metadata import version

    names = ["torch", "numpy", *(["vllm"] if backend == "vllm" else [])]
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except ImportError:
            found[name] = version(f"{name}-cpu")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--backend", choices=("vllm", "torch"), default="vllm")
    parser.add_argument("--shape", default="1.8b")
    parser.add_argument("--layers", type=int, help="fewer layers, for rehearsals")
    parser.add_argument("--quantization", choices=("none", "fp8"), default="none")
    parser.add_argument("--tokenizer", type=Path, default=EXAMPLE)
    parser.add_argument("--at-once", default="1,32,128,256")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--reply", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--interval", type=float, help="response_interval_ms of the server")
    parser.add_argument("--memory-fraction", type=float, default=0.3)
    parser.add_argument("--work", type=Path, help="folder for checkpoint, store and log")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        print(json.dumps(measure(arguments, Path(work)), ensure_ascii=False))


if __name__ == "__main__":
    main()
