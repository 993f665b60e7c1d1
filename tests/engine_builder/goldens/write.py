"""Write the goldens: `python -m tests.engine_builder.goldens.write`, then review the difference.

Each case has the config.json as it must be, byte for byte, and the digests of its rank files and
of every tensor in them. They come from `reference`, not from the converter that they judge.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.engine_builder.goldens.cases import CASES, FOLDER, GoldenCase
from tests.engine_builder.goldens.reference import Reference


def describe_files(files: dict[str, bytes]) -> dict[str, Any]:
    """Return the digests of safetensors files: of each whole file and of each tensor."""
    return {name: _describe(data) for name, data in files.items() if name != "config.json"}


def convert_by_reference(case: GoldenCase, folder: Path) -> dict[str, bytes]:
    return Reference(case.write_source(folder), case.reference_options()).files()


def _describe(data: bytes) -> dict[str, Any]:
    begin = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:begin]).items():
        first, last = entry["data_offsets"]
        digest = hashlib.sha256(data[begin + first : begin + last]).hexdigest()
        tensors[name] = f"{entry['dtype']} {entry['shape']} {digest}"
    return {"sha256": hashlib.sha256(data).hexdigest(), "tensors": tensors}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            files = convert_by_reference(case, Path(scratch))
        (FOLDER / f"{name}.config.json").write_bytes(files["config.json"])
        text = json.dumps(describe_files(files), indent=1) + "\n"
        (FOLDER / f"{name}.ranks.json").write_text(text)


if __name__ == "__main__":
    main()
