"""The process's log: one JSON object a line on standard error, ours and every library's alike.

No line holds the id of a device: see `hiding`.
"""

import logging
from typing import Any

import msgspec

from constellation.api.hiding import Hiding

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "color_message", "taskName"}
_OURS = frozenset({"request_id", "trace_id", "device"})
"""Fields that look like an id and are none of a device."""


class JsonFormatter(logging.Formatter):
    """time, level, event, then whatever the call gave as `extra`, then the traceback of an exception."""

    def __init__(self, hiding: Hiding) -> None:
        super().__init__()
        self._hiding = hiding

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "event": self._hidden(record.getMessage()),
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                line[name] = value if name in _OURS else self._hidden(value)
        if record.exc_info:
            line["traceback"] = self._hidden(self.formatException(record.exc_info))
        return msgspec.json.encode(line, enc_hook=repr).decode()

    def _hidden(self, value: Any) -> Any:
        """Numbers as they are; of anything else what would be shown, without ids."""
        if value is None or isinstance(value, int | float):
            return value
        return self._hiding.text(value if isinstance(value, str) else repr(value))


def configure_logging(level: str, hiding: Hiding) -> None:
    """Called once, by the process's entry; tests keep theirs."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(hiding))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # uvicorn's own account of starting and stopping repeats ours in prose.
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLogger().level))
