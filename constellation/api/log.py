"""The process's log: one JSON object a line on standard error, ours and every library's alike."""

import logging
from typing import Any

import msgspec

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "color_message", "taskName"}


class JsonFormatter(logging.Formatter):
    """time, level, event, then whatever the call gave as `extra`, then the traceback of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **{name: value for name, value in record.__dict__.items() if name not in _STANDARD},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=repr).decode()


def configure_logging() -> None:
    """Called once, by the process's entry; tests keep theirs."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    # uvicorn's own account of starting and stopping repeats ours in prose.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
