"""The stand-in's main function: parse, load, "build" rank by rank, write."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.trtllm_build.arguments import parser
from tests.support.trtllm_build.engine_config import outcome
from tests.support.trtllm_build.failures import FAILURES, fail
from tests.support.trtllm_build.loader import check_config, load

if TYPE_CHECKING:
    import argparse

FAILURE = "LLMJP_STANDIN_FAILURE"


@dataclass(frozen=True, slots=True)
class Order:
    """What every rank is built from."""

    args: argparse.Namespace
    checkpoint: Path
    config: dict[str, Any]
    document: dict[str, Any]


def main(argv: list[str]) -> int:
    """The exit status."""
    recording = os.environ.get("LLMJP_STANDIN_ARGUMENTS", "")
    if not Path(recording).is_file():
        print("stand-in: LLMJP_STANDIN_ARGUMENTS must name the recorded arguments", file=sys.stderr)
        return 64
    if os.environ.get(FAILURE, "unknown") not in FAILURES:
        print(f"stand-in: {FAILURE} must be one of {', '.join(FAILURES)}", file=sys.stderr)
        return 64
    args = parser(Path(recording)).parse_args(argv)
    began = time.monotonic()
    version = os.environ.get("LLMJP_STANDIN_VERSION", "1.2.1")
    print(f"[TensorRT-LLM] TensorRT LLM version: {version}", flush=True)
    checkpoint = Path(args.checkpoint_dir)
    config = json.loads((checkpoint / "config.json").read_bytes())
    check_config(config)
    sm = int(os.environ.get("LLMJP_STANDIN_SM", "90"))
    result = outcome(args, config, sm=sm, version=version)
    for warning in result.warnings:
        say("W", warning)
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    build_all(Order(args, checkpoint, config, result.document))
    if not args.dry_run:
        say("I", f"Total time of building all engines: {duration(began)}")
    return 0


def build_all(order: Order) -> None:
    """Every rank, as many at once as there are workers and GPUs."""
    world = order.config["mapping"]["world_size"]
    workers = min(int(os.environ.get("LLMJP_STANDIN_GPUS", "1")), order.args.workers)
    if workers == 1:
        for rank in range(world):
            build_rank(order, rank)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(build_rank, order, rank) for rank in range(world)]
        failures = []
        for future in as_completed(futures):
            try:
                future.result()
            except Exception as exc:  # noqa: BLE001 - as the real command does
                traceback.print_exc()
                failures.append(exc)
        assert not failures, "Engine building failed, please check error log."


def build_rank(order: Order, rank: int) -> None:
    """One engine file; rank 0 writes config.json and the timing cache as well."""
    args, failure = order.args, os.environ.get(FAILURE)
    for warning in load(order.checkpoint, order.config, rank):
        say("W", warning)
    entries = read_cache(args.input_timing_cache)
    say("I", "Build TensorRT engine Unnamed Network 0")
    began = time.monotonic()
    if failure is not None:
        fail(failure)
    say("I", f"Total time of building Unnamed Network 0: {duration(began)}")
    if rank == 0:
        Path(args.output_timing_cache).write_text(json.dumps(entries + 1))
        say("I", f"Timing cache serialized to {args.output_timing_cache}")
    if rank == 0:
        text = json.dumps(_spoilt(order.document, failure), indent=4)
        (Path(args.output_dir) / "config.json").write_text(text)
    if args.dry_run or (failure == "no_engine" and rank):
        return
    path = Path(args.output_dir) / f"rank{rank}.engine"
    say("I", f"Serializing engine to {path}...")
    digest = hashlib.sha256((order.checkpoint / f"rank{rank}.safetensors").read_bytes())
    path.write_text(
        f"stand-in, no engine: rank {rank} of {digest.hexdigest()}, {entries} timings\n"
    )
    say("I", f"Engine serialized. Total time: {duration(began)}")


def _spoilt(document: dict[str, Any], failure: str | None) -> dict[str, Any]:
    match failure:
        case "no_key":
            del document["build_config"]["plugin_config"]["tokens_per_block"]
        case "other_layout":
            document["pretrained_config"]["mapping"]["tp_size"] += 1
        case _:
            pass
    return document


def read_cache(path: str | None) -> int:
    """Entries of a timing cache; none where there is no cache, with the real command's warning."""
    if path is not None and Path(path).exists():
        return int(json.loads(Path(path).read_bytes()))
    if path is not None:
        say("W", "Invalid timing cache, using freshly created one")
    return 0


def say(level: str, text: str) -> None:
    """A line of the log."""
    print(f"[{time.strftime('%m/%d/%Y-%H:%M:%S')}] [TRT-LLM] [{level}] {text}", flush=True)


def duration(began: float) -> str:
    """Since `began`, as the real command writes it."""
    return time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - began))
