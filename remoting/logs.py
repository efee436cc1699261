"""Log files where RocketMQ users look for them."""

import logging
import logging.handlers
import os
from pathlib import Path

_MAX_BYTES = 64 << 20
_KEEP = 5
# With the pid: several nodes of one machine may share a file.
_LINE = "%(asctime)s %(levelname)s %(process)d %(name)s - %(message)s"


def log_home() -> Path:
    """$ROCKETMQ_LOG_HOME, else ~/logs/rocketmqlogs."""
    named = os.environ.get("ROCKETMQ_LOG_HOME")
    return Path(named) if named else Path.home() / "logs" / "rocketmqlogs"


def setup(file_name: str, level: int = logging.INFO) -> Path:
    """Send this process's log to `file_name` in the log folder, rotated; return its path."""
    home = log_home()
    home.mkdir(parents=True, exist_ok=True)
    path = home / file_name
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=_MAX_BYTES, backupCount=_KEEP, encoding="utf-8"
    )
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(process)d %(name)s - %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    return path
