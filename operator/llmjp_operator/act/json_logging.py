"""Logging as one JSON object per line: time, level, message, fields. Never a spec or a token."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Final

_FIELDS: Final = (
    "model",
    "phase",
    "reason",
    "pause_s",
    "details",
    "namespaces",
    "version",
    "identity",
    "port",
)
"""Fields of `extra`, as our own calls name them."""


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": time,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line | fields, ensure_ascii=False, default=str)


def configure_logging(level: str) -> None:
    """Log to stderr from `level` on; libraries from warnings on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("llmjp_operator").setLevel(level.upper())
