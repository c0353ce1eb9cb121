"""Shows on stderr how far a job is: a live line on a terminal, plain lines elsewhere.

Spec: specs/rpc.md#command-line.
"""

import sys
import threading
from collections.abc import Mapping
from typing import Any, Final, Protocol

from node.cli.output import plain, say, short_peer

SAYING: Final[dict[str, str]] = {
    "waiting": "no provider is known yet: waiting for one",
    "announced": "announced, waiting for bids",
    "bids": "the bids are in",
    "awarded": "awarded",
    "fetching": "the provider fetches image and inputs",
    "starting": "the provider has everything and is to start",
    "running": "running",
    "cancelling": "cancelling: the provider is to stop it",
    "returning": "returning what it left",
    "retry": "this attempt failed, another follows",
}
"""What a phase means to a person; the last ones are told by the command's own summary."""
LASTING: Final = frozenset({"running", "retry", "cancelling"})
"""What is worth a line that stays."""
ENDED: Final = frozenset({"done", "failed", "cancelled"})


class Progress(Protocol):
    """Hears what happens to a job."""

    def reach(self, kind: str, detail: Mapping[str, Any]) -> None:
        """Show that a phase began or something else happened."""
        ...

    def log_begins(self) -> None:
        """Make way for the job's own output; may be called from another thread."""
        ...


def choose_progress(*, as_json: bool) -> Progress:
    """Return what suits the place where stderr goes; programs get the events on stdout."""
    if as_json:
        return Silence()
    return LiveLine() if sys.stderr.isatty() else Lines()


class Silence:
    """Shows nothing."""

    def reach(self, kind: str, detail: Mapping[str, Any]) -> None: ...

    def log_begins(self) -> None: ...


class Lines:
    """Shows each event as a line."""

    def reach(self, kind: str, detail: Mapping[str, Any]) -> None:
        if kind not in ENDED:
            say(line_of(kind, detail))

    def log_begins(self) -> None: ...


class LiveLine:
    """Shows a line that changes in place, until the job runs; then plain lines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: Any = None
        self._reached: list[str] = []
        self._log_began = False

    def reach(self, kind: str, detail: Mapping[str, Any]) -> None:
        with self._lock:
            self._reached.append(_with_peer(kind, detail))
            if kind in SAYING and kind not in LASTING and not self._log_began:
                self._show(" → ".join(self._reached))
                return
            # From here on, what was live is done: the job writes, or begins anew elsewhere.
            self._end_live()
            self._reached.clear()
            if kind not in ENDED:
                say(line_of(kind, detail))

    def log_begins(self) -> None:
        with self._lock:
            self._log_began = True
            self._end_live()

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


def line_of(kind: str, detail: Mapping[str, Any]) -> str:
    """Return one event as a line for a person."""
    text = SAYING.get(kind, kind)
    if peer := detail.get("provider"):
        text += (
            f" to {short_peer(str(peer))}" if kind == "awarded" else f" ({short_peer(str(peer))})"
        )
    return text + (f": {detail['why']}" if detail.get("why") else "")


def _with_peer(kind: str, detail: Mapping[str, Any]) -> str:
    peer = detail.get("provider")
    return f"{kind} {short_peer(str(peer))}" if peer else kind
