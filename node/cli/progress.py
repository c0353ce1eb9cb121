"""Shows a job's progress on stderr: a live line on a terminal, plain lines elsewhere.

Spec: specs/rpc.md#command-line.
"""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Protocol

import click

from node.cli.output import plain, say, short_peer
from node.cli.places import place_in_words
from node.cli.transfer_rate import TransferRate

SAYING: Final[dict[str, str]] = {
    "queued": "waiting for capacity",
    "place": "waiting for capacity",
    "announced": "announced, waiting for bids",
    "bids": "bids received",
    "awarded": "awarded",
    "fetching": "the provider fetches image and inputs",
    "progress": "the provider fetches image and inputs",
    "starting": "the provider has image and inputs, and starts the job",
    "running": "running",
    "checkpoint": "running; the newest checkpoint is here",
    "preempted": "the provider stops: the job may save its state, and continues elsewhere",
    "cancelling": "cancelling: the provider stops the job",
    "returning": "returning log and outputs",
    "retry": "this attempt failed; another follows",
}
"""The text of each phase; the command's summary covers the final ones."""
LASTING: Final = frozenset({"announced", "awarded", "running", "preempted", "retry", "cancelling"})
"""The kinds of events that get a permanent line."""
ENDED: Final = frozenset({"done", "failed", "cancelled"})
UNTOLD: Final = ENDED | {"progress", "checkpoint"}
"""The kinds of events without a plain line: these repeat often."""
WAITS: Final = ("queued", "place")
"""After one of these kinds, a change of the place gets no plain line."""


class ProgressDisplay(Protocol):
    """Receives the events of a job."""

    def reach(self, kind: str, detail: Mapping[str, Any]) -> None:
        """Show an event."""
        ...

    def note(self, line: str) -> None:
        """Show an additional line."""
        ...

    def update(self, line: str) -> None:
        """Show a line that the next one may replace."""
        ...

    def beside_output(self, chunk: bytes) -> AbstractContextManager[None]:
        """Clear the line while the job's own output is written, perhaps in another thread."""
        ...

    def end(self) -> None:
        """Leave the cursor at the beginning of a line."""
        ...


def choose_progress(*, as_json: bool) -> ProgressDisplay:
    """Return the Progress that suits stderr; programs get the events on stdout."""
    if as_json:
        return Silence()
    return (LiveLine if sys.stderr.isatty() else Lines)(beside_log=_is_one_place())


class Silence:
    """Shows nothing."""

    def reach(self, kind: str, detail: Mapping[str, Any]) -> None: ...

    def note(self, line: str) -> None: ...

    def update(self, line: str) -> None: ...

    def beside_output(self, chunk: bytes) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def end(self) -> None: ...


class Lines:
    """Shows each event as a line.

    With `beside_log`, the job's own output goes to the same place: no line begins in the middle of
    one of the job's.
    """

    def __init__(self, *, beside_log: bool) -> None:
        self._lock = threading.Lock()
        self._words = Words()
        self._beside_log = beside_log
        self._in_line = False
        self._waits = False

    def reach(self, kind: str, detail: Mapping[str, Any]) -> None:
        line = self._words.line_of(kind, detail)
        is_known = kind == "place" and self._waits
        self._waits = kind in WAITS
        if kind not in UNTOLD and not is_known:
            self.note(line)

    def note(self, line: str) -> None:
        with self._lock:
            self._say(line)

    def update(self, line: str) -> None:
        self.note(line)

    @contextmanager
    def beside_output(self, chunk: bytes) -> Iterator[None]:
        # Elsewhere we need not wait for a slow reader of the log.
        with self._lock if self._beside_log else nullcontext():
            yield
            self._in_line = self._beside_log and not chunk.endswith(b"\n")

    def end(self) -> None:
        with self._lock:
            self._end_line()

    def _say(self, line: str) -> None:
        self._end_line()
        say(line)

    def _end_line(self) -> None:
        if self._in_line:
            click.echo(err=True)
        self._in_line = False


class LiveLine(Lines):
    """Updates one line in place until the job writes; then prints plain lines."""

    def __init__(self, *, beside_log: bool) -> None:
        super().__init__(beside_log=beside_log)
        self._live: Any = None
        self._log_began = False

    def reach(self, kind: str, detail: Mapping[str, Any]) -> None:
        line = self._words.line_of(kind, detail)
        with self._lock:
            if kind in SAYING and kind not in LASTING and not self._log_began:
                self._show(line)
            elif kind not in UNTOLD:
                self._say(line)
            elif kind in ENDED:
                self._end_live()

    def update(self, line: str) -> None:
        with self._lock:
            self._show(line)

    @contextmanager
    def beside_output(self, chunk: bytes) -> Iterator[None]:
        with self._lock:
            self._log_began = True
            self._end_live()
        with super().beside_output(chunk):
            yield

    def end(self) -> None:
        with self._lock:
            self._end_live()
            self._end_line()

    def _say(self, line: str) -> None:
        self._end_live()
        super()._say(line)

    def _show(self, line: str) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.status import Status

        text = escape(plain(line))
        if self._live is None:
            self._live = Status(text, console=Console(stderr=True))
            self._live.start()
        else:
            self._live.update(text)

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class Words:
    """Describes a job's events in words; it remembers the bids, which explain the price."""

    def __init__(self) -> None:
        self._bids: list[Any] = []
        self._checkpoint = 0
        self._rate = TransferRate()

    def line_of(self, kind: str, detail: Mapping[str, Any]) -> str:
        """Return one event as a line of text."""
        if kind == "bids":
            self._bids = detail.get("bids", [])
        text = SAYING.get(kind, kind)
        if kind == "announced" and detail.get("rate_max"):
            return f"{text}: at most {_hourly(detail['rate_max'])}, {detail['why']}"
        if kind == "checkpoint":
            self._checkpoint = detail["number"]
        if kind == "preempted":
            point = f"checkpoint {self._checkpoint}" if self._checkpoint else "its beginning"
            return f"{text} from {point} or a later one ({short_peer(detail['provider'])})"
        if kind == "fetching" and detail.get("resumes_from"):
            text += f" to continue from checkpoint {detail['resumes_from']}"
        if kind == "place":
            return f"{text}: {place_in_words(detail)}"
        if kind == "progress":
            text += f": {self._rate.line_of(detail['fetched'], detail['total'])}"
        if peer := detail.get("provider"):
            short = short_peer(str(peer))
            text += f" to {short}{self._price(detail)}" if kind == "awarded" else f" ({short})"
        return text + (f": {detail['why']}" if detail.get("why") else "")

    def _price(self, detail: Mapping[str, Any]) -> str:
        if "rate" not in detail:
            return ""
        eligible = sum(bid["eligible"] for bid in self._bids)
        alone = why_alone(len(self._bids), eligible, at_ask=detail["rate"] == detail["ask"])
        return f" for {_hourly(detail['rate'])}{alone}"


def _hourly(rate: int) -> str:
    from protocol.values.units import hourly_of_rate

    return f"{hourly_of_rate(rate)} credits an hour"


def why_alone(bids: int, eligible: int, *, at_ask: bool) -> str:
    """Return, in brackets, what set the price if there was no second bid; else ""."""
    if eligible != 1:
        return ""
    who = "the only bidder" if bids == 1 else "the only eligible bidder"
    return f" ({who})" if at_ask else f" ({who}: the most that the call pays)"


def _is_one_place() -> bool:
    """Return whether stdout and stderr go to the same terminal, pipe or file."""
    try:
        return os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    except (OSError, ValueError):  # One is closed, or replaced by a test.
        return False
