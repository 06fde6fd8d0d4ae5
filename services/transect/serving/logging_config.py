"""JSON logs on standard error, one object per line.

The formatter is a dozen lines, so that a library for it would be one more dependency without a gain.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one line: time, level, logger, message, then the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Format `record` as one JSON object; JSON escapes line ends, so no log line can be forged."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _PLAIN})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logging(level: str) -> None:
    """Log everything in this process to standard error as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Their INFO lines, one per connection, repeat the access log.
    for name in ("urllib3", "alembic", "mlflow", "python_multipart"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
