"""Conversion against `cp`: wall time, and the peak of anonymous memory, on generated checkpoints.

    python bench/convert.py --dir /somewhere/with/20GB
    python bench/convert.py --sizes 150m,440m,1.8b,3.7b,13b --plot convert.png --dir /with/60GB

The first generates a checkpoint of llm-jp-3-1.8b's shape (3.7 GB, bf16) and measures in turns, in
one run, with everything that is read in the page cache:

- `cp --reflink=never` of the source, then `sync`: the bytes that a conversion at tp 1 writes;
- `llmjp convert` at tp 1 and at tp 4, whole processes, until everything is on the disk;
- the same cp of tp 4's result, larger than the source: each rank has its own embedding table.

The second does this at one tp (`--tp`, 1) for each size. Where the disk has no room for a source
and a copy (55 GB for 13b), the source is a file of holes and there is no cp; where the memory has
none, it is read from the disk, at most twice. The table says which.

A ratio is the median over rounds of (conversion / cp of as many bytes). Anonymous memory is RssAnon
of /proc/PID/status, sampled every 10 ms. What was generated is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from checkpoints import DTYPES, generate
from growth import plot, points, table
from llmjp_builder.contracts.errors import BuilderError
from llmjp_builder.planning.models import SIZES, find_model_by_size
from timing import Series, convert_command, copy_command, measure, ratio, timed, warm


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


def one_shape(options: argparse.Namespace, folder: Path) -> None:
    source = folder / "source"
    size = generate(source, find_model_by_size(options.shape).config, options.stored)
    series = rounds(folder, source, options.rounds)
    cp, tp1, tp4, result = series
    ratios = {
        "tp 1": ratio(tp1, cp),
        "tp 4": ratio(tp4, result),
        "tp 4, against cp of the source": ratio(tp4, cp),
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


def many_sizes(options: argparse.Namespace, folder: Path) -> None:
    try:
        found = points(
            folder, options.sizes, tp=options.tp, rounds=options.rounds, stored=options.stored
        )
    except BuilderError as exc:  # a tp that divides no such model
        raise SystemExit(str(exc)) from exc
    if not found:
        raise SystemExit("nothing was measured: no size fits on the disk")
    print(table(found, options.stored))
    if options.json:
        options.json.write_text(json.dumps([asdict(p) for p in found], indent=2) + "\n")
    if options.plot:
        plot(found, options.plot)


def sizes(text: str) -> list[str]:
    """Smallest first, whatever the order in `text`."""
    named = {name.strip().lower() for name in text.split(",")}
    if unknown := named.difference(SIZES):
        known = ", ".join(SIZES)
        raise argparse.ArgumentTypeError(f"no size {', '.join(sorted(unknown))}: there are {known}")
    return [size for size in SIZES if size in named]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, help="where to work (default: the temporary folder)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--shape", choices=SIZES, default="1.8b")
    what.add_argument("--sizes", type=sizes, help="several, with commas: growing models at one tp")
    parser.add_argument("--tp", type=int, help="with --sizes (default: 1)")
    parser.add_argument("--stored", choices=DTYPES, default="BF16", help="F32 measures the cast")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--plot", type=Path, help="with --sizes: draw them here; needs matplotlib")
    options = parser.parse_args()
    if not options.sizes and (options.plot or options.tp):
        parser.error("--plot and --tp need --sizes")
    if options.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install 'llmjp-serving[bench]'")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    options.tp = options.tp or 1
    return options


def main() -> None:
    options = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # removes what was generated, too
    with tempfile.TemporaryDirectory(prefix="llmjp-bench-", dir=options.dir) as name:
        if options.sizes:
            many_sizes(options, Path(name))
        else:
            one_shape(options, Path(name))


if __name__ == "__main__":
    main()
