"""Conversion against `cp`: wall time, and the peak of anonymous memory, on a generated checkpoint.

    python bench/convert.py --dir /somewhere/with/20GB

Generates a checkpoint of llm-jp-3-1.8b's shape (3.7 GB, bf16) and measures in turns, in one run,
with everything that is read in the page cache:

- `cp --reflink=never` of the source, then `sync`: the bytes that a conversion at tp 1 writes;
- `llmjp convert` at tp 1 and at tp 4, whole processes, until everything is on the disk;
- the same cp of tp 4's result, larger than the source: each rank has its own embedding table.

A ratio is the median over rounds of (conversion / cp of as many bytes). Anonymous memory is RssAnon
of /proc/PID/status, sampled every 10 ms. What was generated is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from llmjp_builder.convert.header import NewTensor, new_header

SHAPES = {
    "1.8b": {"d": 2048, "f": 7168, "layers": 24, "heads": 16, "v": 99584},
    "150m": {"d": 512, "f": 2048, "layers": 12, "heads": 8, "v": 99584},
}
DTYPES = {"BF16": "bfloat16", "F32": "float32"}
SAMPLE_S = 0.01


@dataclass
class Series:
    """One thing measured, over all rounds."""

    name: str
    seconds: list[float] = field(default_factory=list)
    rss_anon_bytes: int = 0


def tensors(d: int, f: int, layers: int, v: int, *, stored: str) -> list[NewTensor]:
    named = {"model.embed_tokens": (v, d), "lm_head": (v, d), "model.norm": (d,)}
    for i in range(layers):
        layer = f"model.layers.{i}."
        named |= {f"{layer}self_attn.{p}_proj": (d, d) for p in "qkvo"}
        named |= {f"{layer}mlp.{p}_proj": (f, d) for p in ("gate", "up")}
        named |= {f"{layer}mlp.down_proj": (d, f)}
        named |= {f"{layer}{p}_layernorm": (d,) for p in ("input", "post_attention")}
    return [NewTensor(f"{name}.weight", stored, shape) for name, shape in named.items()]


def generate(folder: Path, shape: dict[str, int], stored: str) -> int:
    """Writes the checkpoint; returns the size of its weights in bytes."""
    folder.mkdir(parents=True)
    listed = tensors(shape["d"], shape["f"], shape["layers"], shape["v"], stored=stored)
    header, _ = new_header(listed)
    left = sum(tensor.size for tensor in listed)
    # The top bits of every number are cleared, so that none is infinite or too large for bf16.
    block = (np.frombuffer(os.urandom(64 << 20), np.uint32) & 0x3FFF3FFF).tobytes()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header)
        while left:
            left -= file.write(block[: min(left, len(block))])
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": shape["d"],
        "intermediate_size": shape["f"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "vocab_size": shape["v"],
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "torch_dtype": DTYPES[stored],
    }
    (folder / "config.json").write_text(json.dumps(config))
    os.sync()
    return (folder / "model.safetensors").stat().st_size


def timed(command: list[str]) -> tuple[float, int]:
    """Wall time in seconds and peak RssAnon in bytes of a process."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, rss_anon(process.pid))
            time.sleep(SAMPLE_S)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"failed with {process.returncode}: {' '.join(command)}")
    return seconds, peak


def rss_anon(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def measure(series: Series, command: list[str], out: Path) -> None:
    """One more value; the command makes the folder `out`, which is removed again."""
    os.sync()
    seconds, peak = timed(command)
    series.seconds.append(seconds)
    series.rss_anon_bytes = max(series.rss_anon_bytes, peak)
    shutil.rmtree(out)


def warm(folder: Path) -> None:
    """Into the page cache: everything measured reads from memory."""
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            while file.read(16 << 20):
                pass


def copy_command(source: Path, out: Path) -> list[str]:
    script = 'cp -r --reflink=never "$0" "$1" && sync "$1"/*'
    return ["/bin/sh", "-c", script, str(source), str(out)]


def convert_command(source: Path, out: Path, tp: int) -> list[str]:
    run = "from llmjp_cli.__main__ import main; main()"
    options = ["--tp", str(tp), "--dtype", "bfloat16"]
    return [sys.executable, "-c", run, "convert", str(source), str(out), *options]


def rounds(folder: Path, source: Path, count: int) -> list[Series]:
    """All series, each round in another order, since a disk remembers what it was given before."""
    result, out = folder / "tp4", folder / "out"
    timed(convert_command(source, result, 4))
    plan = [
        (Series("cp source"), source, copy_command(source, out)),
        (Series("convert tp 1"), source, convert_command(source, out, 1)),
        (Series("convert tp 4"), source, convert_command(source, out, 4)),
        (Series("cp result of tp 4"), result, copy_command(result, out)),
    ]
    for i in range(count):
        turn = i % len(plan)
        for series, read, command in plan[turn:] + plan[:turn]:
            warm(read)
            measure(series, command, out)
    return [series for series, _, _ in plan]


def ratio(one: Series, other: Series) -> float:
    return statistics.median(a / b for a, b in zip(one.seconds, other.seconds, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, help="where to work (default: the temporary folder)")
    parser.add_argument("--shape", choices=SHAPES, default="1.8b")
    parser.add_argument("--stored", choices=DTYPES, default="BF16", help="F32 measures the cast")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llmjp-bench-", dir=options.dir) as name:
        folder = Path(name)
        size = generate(folder / "source", SHAPES[options.shape], options.stored)
        series = rounds(folder, folder / "source", options.rounds)
    source, tp1, tp4, result = series
    ratios = {
        "tp 1": ratio(tp1, source),
        "tp 4": ratio(tp4, result),
        "tp 4, against cp of the source": ratio(tp4, source),
    }
    print(f"{options.shape}: {size / 1e9:.2f} GB, {options.rounds} rounds, {os.cpu_count()} cores")
    print(f"{'':>20}  {'median s':>9}  {'min':>6}  {'max':>6}  {'RssAnon MB':>10}")
    for s in series:
        middle, low, high = statistics.median(s.seconds), min(s.seconds), max(s.seconds)
        memory = s.rss_anon_bytes / 1e6
        print(f"{s.name:>20}  {middle:9.2f}  {low:6.2f}  {high:6.2f}  {memory:10.0f}")
    for what, value in ratios.items():
        print(f"convert / cp, {what}: {value:.2f}")
    if options.json:
        figures = {"bytes": size, "ratios": ratios, "series": [asdict(s) for s in series]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
