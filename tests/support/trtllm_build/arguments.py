"""The command line of the real `trtllm-build`, from a recording of its parser."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_INTEGERS_WITHOUT_DEFAULT = {"--max_seq_len", "--opt_num_tokens"}
"""The recording has no types; where there is a default it tells."""


def parser(recording: Path) -> argparse.ArgumentParser:
    """Accepts what the recorded parser accepts."""
    result = argparse.ArgumentParser(prog="trtllm-build")
    for record in json.loads(recording.read_bytes()):
        result.add_argument(*record["flags"], **_settings(record))
    return result


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    flag, default = record["flags"][0], record["default"]
    if record["store_true"]:
        return {"action": "store_true", "default": default, "dest": flag[2:]}
    integer = type(default) is int or flag in _INTEGERS_WITHOUT_DEFAULT
    return {
        "dest": flag[2:],
        "type": int if integer else str,
        "default": argparse.SUPPRESS if record["suppressed"] else default,
        "choices": record["choices"],
        "nargs": "+" if flag in {"--lora_dir", "--lora_target_modules"} else None,
    }
