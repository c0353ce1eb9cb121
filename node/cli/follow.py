"""Follows a job to its end: its log to stdout as it grows, its events to the progress.

Log and events are two streams, so the log is read in a thread of its own.
Spec: specs/rpc.md#command-line.
"""

import codecs
import json
import sys
import threading
from typing import Any, Final

from node.cli.connection import NO_PEERS, Connection, quoted
from node.cli.failure import CliError
from node.cli.progress import ProgressDisplay

LOG_TAIL_S: Final = 30.0
"""How long the log may be silent after the job has ended."""
STOP_S: Final = 1.0
INTERRUPT_S: Final = 0.02
"""How often the waiting threads are interrupted after the reader of stdout has gone."""


class LogPrinter:
    """Writes a job's log to stdout: as it is, or as JSON lines {"log": text}."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lock = threading.Lock()

    def write(self, chunk: bytes) -> None:
        """Write bytes of the log at once."""
        if self._as_json:
            self.write_object({"log": self._decoder.decode(chunk)})
            return
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()

    def write_object(self, value: dict[str, Any]) -> None:
        """Write a line of JSON in JSON mode."""
        if self._as_json:
            with self._lock:
                sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
                sys.stdout.flush()

    def end(self) -> None:
        """Write the rest of a character that was split between two parts of the log."""
        if self._as_json and (rest := self._decoder.decode(b"", final=True)):
            self.write_object({"log": rest})


def follow_job(
    node: Connection, job_id: str, printer: LogPrinter, progress: ProgressDisplay
) -> dict[str, Any]:
    """Print a job's log and progress until it has ended; return the job as it is then.

    Raises CliError if the daemon goes first, and what stdout raises if its reader goes.
    """
    log = _LogThread(node, job_id, printer, progress)
    log.start()
    alone = False
    try:
        for event in node.events(f"/jobs/{job_id}/events"):
            printer.write_object({"event": event.data})
            waits = event.kind == "queued" and not alone
            if waits and not node.get("/peers"):
                alone = True
                progress.note(NO_PEERS)
            progress.reach(event.kind, event.data.get("detail", {}))
        log.finish()
    except CliError:
        log.raise_error()  # If the reader of stdout has gone, the events are interrupted, too.
        raise
    finally:
        log.stop()
    printer.end()
    found: dict[str, Any] = node.get(f"/jobs/{quoted(job_id)}")
    return found


class _LogThread(threading.Thread):
    def __init__(
        self, node: Connection, job_id: str, printer: LogPrinter, progress: ProgressDisplay
    ) -> None:
        super().__init__(name="log", daemon=True)
        self._node = node
        self._path = f"/jobs/{job_id}/logs"
        self._printer = printer
        self._progress = progress
        self._error: Exception | None = None
        self._over = threading.Event()
        """Note that no thread waits for events any more."""
        self._chunks = 0
        self._writing = False

    def run(self) -> None:
        try:
            for chunk in self._node.download(self._path, None, follow="true"):
                self._chunks += 1
                self._writing = True
                with self._progress.beside_output(chunk):
                    self._printer.write(chunk)
                self._writing = False
        except (CliError, OSError) as error:
            self._error = error
            while not self._over.wait(INTERRUPT_S):  # The events may be requested just now.
                self._node.interrupt()

    def finish(self) -> None:
        """Wait for the rest of the log; only the node is limited in time, not stdout's reader."""
        before = -1
        self._over.set()
        while self.is_alive() and (self._writing or self._chunks > before):
            before = self._chunks
            self.join(LOG_TAIL_S)
        self.raise_error()
        if self.is_alive():
            raise CliError("failure", "the log is incomplete", "see it with `mutirao logs`")

    def stop(self) -> None:
        """End the thread: Python must not exit while it writes."""
        self._over.set()
        if self.is_alive():
            self._node.interrupt()
            self.join(STOP_S)

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error
