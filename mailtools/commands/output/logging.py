"""The log lines of a server on stderr: text for people, JSON for programs."""

import json
import logging
import time

from mailtools.core.wire.visible import visible

_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"mailtools: {visible(record.getMessage())}" + self._trace(record)

    def _trace(self, record: logging.LogRecord) -> str:
        return "\n" + self.formatException(record.exc_info) if record.exc_info and _verbose() else ""


class _Json(_Text):
    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        line = {"time": when, "level": record.levelname.lower(), "message": record.getMessage()}
        if trace := self._trace(record):
            line["traceback"] = trace.strip()
        return json.dumps(line)


def _verbose() -> bool:
    return logging.getLogger("mailtools").isEnabledFor(logging.DEBUG)


def set_up(verbosity: int, log_format: str) -> logging.Logger:
    """Set up the logger: -1 errors, 0 warnings, 1 each message, 2 with tracebacks."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    logger = logging.getLogger("mailtools")
    logger.handlers = [handler]
    logger.setLevel(_LEVELS.get(verbosity, logging.DEBUG))
    logger.propagate = False
    return logger
