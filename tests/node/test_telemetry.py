"""Each line says what happened in the form that its reader wants, and logging never waits.

Spec: specs/operation.md#log.
"""

import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from node.telemetry import NonBlockingHandler, TextFormatter, logging_to

log = logging.getLogger("node.test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """Leave the process's logging as it was."""
    noisy = logging.getLogger("libp2p")
    before = noisy.level
    yield
    noisy.setLevel(before)


def written(stream: io.StringIO, log_format: str, level: str = "info") -> list[str]:
    with logging_to(stream, level, log_format):
        log.debug("not told")
        log.info("job %s finished", "j1", extra={"exit": 0, "why": "all done"})
        try:
            raise ValueError("bad\nvalue")
        except ValueError:
            log.exception("a bug")
    return stream.getvalue().splitlines()


def test_logfmt_has_one_line_each() -> None:
    first, second = written(io.StringIO(), "auto")
    assert re.fullmatch(
        r"ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info logger=node\.test"
        r' msg="job j1 finished" exit=0 why="all done"',
        first,
    )
    assert r'msg="a bug" trace="Traceback (most recent call last):\n' in second


def test_json_has_one_object_each() -> None:
    first, second = [json.loads(line) for line in written(io.StringIO(), "json")]
    assert first.pop("ts").endswith("Z")
    assert first == {
        "level": "info",
        "logger": "node.test",
        "msg": "job j1 finished",
        "exit": 0,
        "why": "all done",
    }
    assert second["trace"].endswith("ValueError: bad\nvalue")


def test_people_on_a_terminal_have_sentences() -> None:
    first, second, *trace = written(Terminal(), "auto")
    assert re.fullmatch(r'\d\d:\d\d:\d\d info    job j1 finished  exit=0 why="all done"', first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d error   a bug", second)
    assert trace[0] == "  Traceback (most recent call last):"


def test_level_decides_what_is_told() -> None:
    assert any("not told" in line for line in written(io.StringIO(), "logfmt", "debug"))
    assert len(written(io.StringIO(), "logfmt", "error")) == 1


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_text_of_a_peer_cannot_forge_a_line(stream: io.StringIO) -> None:
    with logging_to(stream):
        log.info("peer says \x1b[2J\nfine\u202e", extra={"why": 'x\n" level=error'})
    (line,) = stream.getvalue().splitlines()
    assert not re.search(r"[\x00-\x1f\u202e]", line)
    assert r'"x\n\" level=error"' in line


def test_libraries_are_quiet() -> None:
    stream = io.StringIO()
    with logging_to(stream, "debug"):
        logging.getLogger("hypercorn.error").info("chatter")
        logging.getLogger("httpx").info("chatter")
        logging.getLogger("hypercorn.error").warning("trouble")
    assert "chatter" not in stream.getvalue()
    assert "trouble" in stream.getvalue()


def test_logging_is_as_before_afterwards() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), threading.active_count())
    written(io.StringIO(), "logfmt")
    assert (root.level, root.handlers, threading.active_count()) == before


class Stuck(io.StringIO):
    """A terminal that stands still until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        assert self.go.wait(10)
        return super().write(text)


def test_stream_that_stands_still_stops_nobody(monkeypatch) -> None:
    small = partial(NonBlockingHandler, lines_max=5)
    monkeypatch.setattr("node.telemetry.NonBlockingHandler", small)
    stream = Stuck()
    with logging_to(stream):
        for n in range(100):
            log.info("line %d", n)  # Returns at once, or this test never ends.
        stream.go.set()
    lines = stream.getvalue().splitlines()
    assert 5 <= len([line for line in lines if 'msg="line ' in line]) <= 7
    dropped = sum(int(count) for count in re.findall(r"dropped=(\d+)", stream.getvalue()))
    assert dropped + len([line for line in lines if 'msg="line ' in line]) == 100


def test_text_is_made_when_it_is_logged() -> None:
    stream, changing = io.StringIO(), ["before"]
    with logging_to(stream):
        log.info("it was %s", changing)
        changing[0] = "after"
    assert "before" in stream.getvalue()


def test_line_without_facts_has_no_trailing_space() -> None:
    record = logging.makeLogRecord({"msg": "plain", "levelname": "INFO", "created": 0.0})
    assert TextFormatter().format(record).endswith("info    plain")
