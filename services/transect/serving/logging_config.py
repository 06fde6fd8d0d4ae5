"""Logs as JSON, one object a line, on standard error."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonFormatter(logging.Formatter):
    """One line a record: time, level, logger, message, then whatever `extra` brought."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one JSON object; line ends inside of it are escaped, so that none can be forged."""
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
    """Send every logger of the process to standard error as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Their INFO lines are about each connection and say nothing that the request line does not.
    for name in ("urllib3", "alembic", "mlflow", "python_multipart"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
