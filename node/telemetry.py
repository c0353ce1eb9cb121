"""The log: one line per event, on standard error; it never blocks the node.

Code logs with the standard library and puts facts beside the message, not into it:

    log = logging.getLogger(__name__)
    log.info("job finished", extra={"job": job_id.hex(), "exit": 0})

People on a terminal read `12:00:01 info  job finished  job=… exit=0`, programs read logfmt or
JSON. No line contains a control character, whatever a peer sent.
Spec: specs/operation.md#log.
"""

import copy
import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from typing import Final, TextIO

LINES_WAITING_MAX: Final = 10_000
"""Beyond this, lines are dropped and counted: a blocked terminal must not stop the node."""
END_WAIT_S: Final = 2
NOISY: Final = (
    "aiosqlite", "asyncio", "docker", "httpcore", "httpx", "hypercorn", "libp2p", "multiaddr",
    "urllib3",
)  # fmt: skip
"""Verbose libraries: only their warnings are logged. httpx would log addresses with signatures."""
OWN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""The standard attributes of a record; all others are facts from `extra`."""


@contextmanager
def logging_to(
    stream: TextIO = sys.stderr, level: str = "info", log_format: str = "auto"
) -> Iterator[None]:
    """Write the log to the stream, from a thread, while in this context; leaving it flushes.

    `level` is debug, info, warning or error; `log_format` is auto (for people if the stream is a
    terminal, else logfmt), logfmt or json.
    """
    output = logging.StreamHandler(stream)
    output.setFormatter(_formatter(stream, log_format))
    handler = NonBlockingHandler()
    root = logging.getLogger()
    level_before = root.level
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # A daemon thread: if the stream blocks for ever, the process can still end.
    writer = threading.Thread(target=_write, args=(handler.lines, output), name="log", daemon=True)
    writer.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level_before)
        handler.end()
        writer.join(END_WAIT_S)


class NonBlockingHandler(QueueHandler):
    """Passes records to the writer's thread; drops and counts those beyond the limit."""

    def __init__(self, lines_max: int = LINES_WAITING_MAX) -> None:
        self.lines: queue.Queue[logging.LogRecord | None] = queue.Queue(lines_max)
        self.dropped = 0
        super().__init__(self.lines)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Format the text now: its arguments may change before it is written."""
        ours = copy.copy(record)
        ours.msg = record.getMessage()
        ours.args = None
        return ours

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue the record unless the queue is full; first report how many were dropped."""
        try:
            self._put_dropped()
            self.lines.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def end(self) -> None:
        """Queue the end of the log; wait for room for a limited time."""
        with suppress(queue.Full):
            if self.dropped:
                self.lines.put(self._dropped_record(), timeout=END_WAIT_S)
            self.lines.put(None, timeout=END_WAIT_S)

    def _put_dropped(self) -> None:
        if self.dropped:
            self.lines.put_nowait(self._dropped_record())
            self.dropped = 0

    def _dropped_record(self) -> logging.LogRecord:
        facts = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
        text = "lines of the log were dropped: they came too fast to be written"
        return logging.makeLogRecord({**facts, "msg": text, "dropped": self.dropped})


class TextFormatter(logging.Formatter):
    """`12:00:01 info  message  fact=value`, local time."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows on lines of its own."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        facts = "".join(f" {name}={_quoted(value)}" for name, value in _facts(record).items())
        line = f"{clock} {record.levelname.lower():<7} {_printable(record.getMessage())}"
        trace = _traceback(self, record)
        ending = "".join(f"\n  {_printable(part)}" for part in trace.splitlines())
        return f"{line} {facts}".rstrip() + ending


class LogfmtFormatter(logging.Formatter):
    """`ts=… level=info logger=node.daemon msg="…" fact=value`, UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, a traceback as the value of `trace`."""
        return " ".join(f"{name}={_quoted(v)}" for name, v in _all_facts(self, record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object per line, with the names of logfmt."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; values that JSON lacks are written as text."""
        return json.dumps(_all_facts(self, record), default=str)


def _write(lines: "queue.Queue[logging.LogRecord | None]", output: logging.Handler) -> None:
    """Write records until the end of the log: the body of the writer's thread."""
    while (record := lines.get()) is not None:
        output.handle(record)


def _formatter(stream: TextIO, log_format: str) -> logging.Formatter:
    if log_format == "auto":
        return TextFormatter() if stream.isatty() else LogfmtFormatter()
    return {"logfmt": LogfmtFormatter, "json": JsonFormatter}[log_format]()


def _all_facts(formatter: logging.Formatter, record: logging.LogRecord) -> Mapping[str, object]:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    facts = {
        "ts": f"{whole}.{int(record.created % 1 * 1000):03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "msg": record.getMessage(),
        **_facts(record),
    }
    trace = _traceback(formatter, record)
    return {**facts, "trace": trace} if trace else facts


def _facts(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in OWN_FIELDS}


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _quoted(value: object) -> str:
    """Return the value in logfmt: in quotes unless it is a plain word."""
    text = str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' ="\\')
    return text if text and plain else json.dumps(text)


def _printable(text: str) -> str:
    """Return the text with control characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
