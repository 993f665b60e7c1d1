"""Calibration and FP8 export: ours against modelopt's, and ours alone as the model grows.

    python bench/quantize.py --dir /somewhere/with/10GB

Generates checkpoints of llm-jp-3's 440m shape with random weights and measures whole processes, one
thread each, on the same texts (some of the built-in ones, in the example model's tokens):

- ours: `calibrate`, then the unified FP8 checkpoint, into an empty store, until all is on the disk;
- modelopt's: `mtq.quantize`, then `export_hf_checkpoint`, by tests/support/modelopt_export.py;
- ours for more and more layers: one layer is in memory at a time, so memory must stay flat.

Amax of both must be equal. RssAnon is sampled every 10 ms; maxrss, of the system, counts pages of
files as well. What was generated is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from checkpoints import tensors
from llmjp_builder.convert.checkpoint import read_checkpoint
from llmjp_builder.convert.header import render_header
from llmjp_builder.quantize.calibration.passages import read_built_in_passages
from llmjp_builder.quantize.calibration.tokens import tokenise
from timing import rss_anon, warm

ROOT = Path(__file__).resolve().parents[1]
SHAPE = {"d": 1024, "f": 3584, "layers": 16, "heads": 8, "v": 99584}
"""llm-jp-3-440m."""
SAMPLE_S = 0.01
MAX_TOKENS = 512

OURS = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.quantize.calibration import calibrate
from llmjp_builder.convert.conversion import convert_checkpoint
from llmjp_builder.progress import Reporter
from llmjp_builder.quantize.unified import prepare_unified
source, texts, store = map(Path, sys.argv[1:])
found = calibrate(source, texts=texts, store=store, dtype="bfloat16", device="cpu")
options = LayoutOptions(quantization="fp8", kv_cache="fp8")
convert_checkpoint(prepare_unified(source, options), store / "out", Reporter(None), found.amax)
(store / "amax.json").write_bytes((found.path / "amax.json").read_bytes())
"""


@dataclass(frozen=True)
class Measured:
    """One process."""

    name: str
    layers: int
    source_bytes: int
    seconds: float
    cpu_seconds: float
    rss_anon_bytes: int
    max_rss_bytes: int


def generate(folder: Path, layers: int) -> int:
    """Writes a checkpoint of that many layers; returns the size of its weights in bytes."""
    folder.mkdir(parents=True)
    listed = tensors(SHAPE["d"], SHAPE["f"], layers, SHAPE["v"], stored="BF16")
    header, begins = render_header(listed)
    normal = np.random.default_rng(1).normal(0.0, 0.02, 16 << 20).astype(np.float32)
    block = (normal.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header)
        for tensor in sorted(listed, key=lambda t: begins[t.name]):
            if "norm" in tensor.name:
                file.write(b"\x80\x3f" * (tensor.size // 2))  # ones
                continue
            left = tensor.size
            while left:
                left -= file.write(block[: min(left, len(block))])
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": SHAPE["d"],
        "intermediate_size": SHAPE["f"],
        "num_hidden_layers": layers,
        "num_attention_heads": SHAPE["heads"],
        "num_key_value_heads": SHAPE["heads"],
        "vocab_size": SHAPE["v"],
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "examples" / "tiny-model" / "checkpoint" / name, folder)
    os.sync()
    return (folder / "model.safetensors").stat().st_size


def measured(
    name: str, source: Path, layers: int, command: list[str], **options: object
) -> Measured:
    """Runs a process to its end; what it says goes to stderr if it fails."""
    warm(source)
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, **options)  # type: ignore[call-overload]
        ended, peak = threading.Event(), [0]

        def sample() -> None:
            while not ended.wait(SAMPLE_S):
                peak[0] = max(peak[0], rss_anon(process.pid))

        thread = threading.Thread(target=sample)
        thread.start()
        _, status, usage = os.wait4(process.pid, 0)
        ended.set()
        thread.join()
        if status:
            said.seek(0)
            sys.stderr.write(said.read().decode()[-4000:])
            raise SystemExit(f"{name} failed with status {status}")
    seconds = time.perf_counter() - start
    size = (source / "model.safetensors").stat().st_size
    cpu = usage.ru_utime + usage.ru_stime
    return Measured(name, layers, size, seconds, cpu, peak[0], usage.ru_maxrss * 1024)


def ours(source: Path, texts: Path, store: Path, layers: int) -> Measured:
    shutil.rmtree(store, ignore_errors=True)
    command = [sys.executable, "-c", OURS, str(source), str(texts), str(store)]
    return measured("ours", source, layers, command)


def modelopt(source: Path, passages: tuple[str, ...], out: Path, layers: int) -> Measured:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    script = [ROOT / "scripts" / "install-modelopt.sh"]
    installed = subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip()
    config = read_checkpoint(source).config
    request = {
        "source": str(source),
        "dtype": "bfloat16",
        "calibration": tokenise(source, config, passages, MAX_TOKENS).texts,
        "kv_cache": True,
        "amax": str(out / "amax.json"),
        "exports": [{"out": str(out / "out")}],
    }
    (out / "request.json").write_text(json.dumps([request]))
    command = [sys.executable, str(ROOT / "tests" / "support" / "modelopt_export.py")]
    env = {**os.environ, "PYTHONPATH": installed, "HF_HUB_OFFLINE": "1"}
    with (out / "request.json").open("rb") as stdin:
        return measured("modelopt", source, layers, command, env=env, stdin=stdin)


def all_measured(folder: Path, passages: tuple[str, ...], layers: list[int]) -> list[Measured]:
    texts = folder / "texts.txt"
    texts.write_text("\n%%\n".join(passages), encoding="utf-8")
    found = []
    for count in [SHAPE["layers"], *layers]:
        source = folder / f"source-{count}"
        generate(source, count)
        found.append(ours(source, texts, folder / "ours", count))
        print(f"{found[-1].name}, {count} layers: {found[-1].seconds:.1f} s", file=sys.stderr)
        if len(found) == 1:
            found.append(modelopt(source, passages, folder / "theirs", count))
            amax = [json.loads((folder / s / "amax.json").read_text()) for s in ("ours", "theirs")]
            if amax[0] != amax[1]:
                raise SystemExit("the amax of the two differ")
        shutil.rmtree(source)
    return found


def plot(found: list[Measured], path: Path) -> None:
    """Needs the extra `bench`."""
    from matplotlib import pyplot as plt  # type: ignore[import-not-found]

    alone = sorted((m for m in found if m.name == "ours"), key=lambda m: m.layers)
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    left.plot([m.layers for m in alone], [m.seconds for m in alone], marker="o")
    left.set(xlabel="layers", ylabel="seconds", ylim=0, title="calibration and export")
    right.plot([m.layers for m in alone], [m.rss_anon_bytes / 1e6 for m in alone], marker="o")
    right.plot([m.layers for m in alone], [m.source_bytes / 1e6 for m in alone], linestyle=":")
    right.set(xlabel="layers", ylabel="MB", ylim=0, title="RssAnon (dotted: the model's size)")
    plt.tight_layout()
    plt.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, help="where to work (default: the temporary folder)")
    parser.add_argument("--texts", type=int, default=64, help="how many of the built-in ones")
    parser.add_argument("--layers", type=int, nargs="*", default=[4, 8, 32], help="ours alone")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--plot", type=Path, help="draw them here; needs matplotlib")
    options = parser.parse_args()
    every = read_built_in_passages()
    passages = every[:: max(1, len(every) // options.texts)][: options.texts]
    with tempfile.TemporaryDirectory(prefix="llmjp-bench-", dir=options.dir) as name:
        found = all_measured(Path(name), passages, options.layers)
    print(f"{len(passages)} texts, one thread")
    print(f"{'':>9} {'layers':>7} {'model GB':>9} {'s':>7} {'CPU s':>7}", end="")
    print(f" {'RssAnon MB':>11} {'maxrss MB':>10}")
    for m in found:
        anon, most = m.rss_anon_bytes / 1e6, m.max_rss_bytes / 1e6
        size = m.source_bytes / 1e9
        times = f"{m.seconds:7.1f} {m.cpu_seconds:7.1f}"
        print(f"{m.name:>9} {m.layers:7} {size:9.2f} {times} {anon:11.0f} {most:10.0f}")
    if options.json:
        options.json.write_text(json.dumps([asdict(m) for m in found], indent=2) + "\n")
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
