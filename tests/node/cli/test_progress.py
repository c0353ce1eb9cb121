"""How far a job is, on a terminal and elsewhere. Spec: specs/rpc.md#command-line."""

import io
import os
import sys
from pathlib import Path

import pytest

from node.cli import progress as progress_module
from node.cli.progress import Lines, LiveLine, Silence, Words, choose_progress

WAITING = ("queued", {"attempt": 0, "why": "no other node is known"})
BIDS = {"bids": [{"peer": "a", "eligible": True}, {"peer": "b", "eligible": False}]}
AWARDED = {"provider": "12D3KooWabcdefgh", "rate": 10**6, "ask": 10**5}
ALONE = " (the only eligible bidder: the most that the call pays)"
CALLED = {"rate_max": 2 * 10**6, "why": "the lowest list price"}
WAY = [
    WAITING, ("announced", CALLED), ("bids", BIDS), ("awarded", AWARDED), ("fetching", {}),
    ("running", {}), ("retry", {"why": "the provider vanished\x1b[2J"}), ("done", {}),
]  # fmt: skip
SAID = [
    "waiting for capacity: no other node is known",
    "announced, waiting for bids: at most 7.2000 credits an hour, the lowest list price",
    "bids received", f"awarded to …abcdefgh for 3.6000 credits an hour{ALONE}",
    "the provider fetches image and inputs", "running",
    "this attempt failed; another follows: the provider vanished?[2J",
]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_terminal(monkeypatch) -> Terminal:
    """Return what stands for a terminal from now on, for pytest has a stderr for each stage."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    return terminal


def test_lines(capsys):
    progress = Lines(beside_log=False)
    for kind, detail in WAY:
        progress.reach(kind, detail)
    progress.end()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == SAID


def test_checkpoints_make_no_lines_and_a_notice_says_from_which_the_job_continues(capsys):
    progress = Lines(beside_log=False)
    notice = {"provider": "12D3KooWabcdefgh", "notice_ms": 30_000}
    for kind, detail in [
        ("preempted", notice), ("checkpoint", {"number": 4}), ("preempted", notice),
        ("fetching", {"provider": "12D3KooWabcdefgh", "resumes_from": 5}),
    ]:  # fmt: skip
        progress.reach(kind, detail)
    told = "the provider stops: the job may save its state, and continues elsewhere from"
    assert capsys.readouterr().err.splitlines() == [
        f"{told} its beginning or a later one (…abcdefgh)",
        f"{told} checkpoint 4 or a later one (…abcdefgh)",
        "the provider fetches image and inputs to continue from checkpoint 5 (…abcdefgh)",
    ]


def test_a_live_line_says_the_same_until_the_job_writes(monkeypatch):
    terminal = on_terminal(monkeypatch)
    progress = choose_progress(as_json=False)
    assert isinstance(progress, LiveLine)
    live = []
    for kind, detail in WAY:
        progress.reach(kind, detail)
        live.append(str(progress._live.status) if progress._live else None)
    assert live == [SAID[0], None, SAID[2], None, SAID[4], None, None, None]
    places = [terminal.getvalue().index(SAID[lasting]) for lasting in (1, 3, 5, 6)]
    assert places == sorted(places)


FETCHED = {"fetched": 3 * 2**20, "total": 12 * 2**20}


def test_how_far_the_fetching_is_changes_the_live_line(monkeypatch):
    on_terminal(monkeypatch)
    progress = LiveLine(beside_log=False)
    progress.reach("fetching", {})
    progress.reach("progress", FETCHED)
    live = "the provider fetches image and inputs: 25 % of 12.0 MiB"
    assert str(progress._live.status) == live
    with progress.beside_output(b"x"):
        pass
    progress.reach("progress", {"fetched": 0, "total": 0})
    assert progress._live is None


def test_how_far_the_fetching_is_makes_no_lines(capsys):
    progress = Lines(beside_log=False)
    progress.reach("progress", FETCHED)
    progress.end()
    assert capsys.readouterr().err == ""


PLACE = {"place": 3, "jobs": 20, "why": "4 are busy", "retry_ms": None, "until_ms": 0}
WAITS = "waiting for capacity: {} of 20: 4 are busy"


def test_the_place_in_the_queue_changes_the_live_line(monkeypatch):
    on_terminal(monkeypatch)
    progress = LiveLine(beside_log=False)
    for place in (3, 2):
        progress.reach("place", PLACE | {"place": place})
        assert str(progress._live.status) == WAITS.format(place)
    progress.end()


def test_the_place_in_the_queue_is_one_line_of_each_wait(capsys):
    progress = Lines(beside_log=False)
    for kind in ("place", "place", "announced", "place", "queued", "place"):
        progress.reach(kind, PLACE)
    lines = capsys.readouterr().err.splitlines()
    assert [line == WAITS.format(3) for line in lines] == [True, False, True, False]


def test_a_line_that_the_next_one_replaces(monkeypatch, capsys):
    Lines(beside_log=False).update("1 of 3 done")
    assert capsys.readouterr().err == "1 of 3 done\n"
    Silence().update("1 of 3 done")
    terminal = on_terminal(monkeypatch)
    progress = LiveLine(beside_log=False)
    progress.update("1 of 3 done")
    assert str(progress._live.status) == "1 of 3 done"
    progress.note("2: exit code 1")
    assert progress._live is None
    assert terminal.getvalue().endswith("2: exit code 1\n")


def test_the_jobs_own_output_ends_the_live_line(monkeypatch):
    terminal = on_terminal(monkeypatch)
    progress = LiveLine(beside_log=False)
    progress.reach("announced", {})
    with progress.beside_output(b"x"):
        assert progress._live is None
    progress.reach("returning", {})
    assert progress._live is None
    assert "returning log and outputs" in terminal.getvalue()


def test_a_remark_and_the_end_end_the_live_line(monkeypatch):
    terminal = on_terminal(monkeypatch)
    progress = LiveLine(beside_log=False)
    for end in (lambda: progress.note("alone"), progress.end):
        progress.reach("fetching", {})
        assert progress._live is not None
        end()
        assert progress._live is None
    assert "alone\n" in terminal.getvalue()


@pytest.mark.parametrize(
    "beside_log,chunk,between",
    [(True, b"no newline", "\n"), (True, b"one\n", ""), (False, b"no newline", "")],
)
def test_no_line_begins_in_the_middle_of_one_of_the_jobs(capsys, beside_log, chunk, between):
    progress = Lines(beside_log=beside_log)
    with progress.beside_output(chunk):
        pass
    progress.reach("returning", {})
    progress.reach("retry", {})
    with progress.beside_output(chunk):
        pass
    progress.end()
    progress.end()
    assert capsys.readouterr().err == (
        f"{between}returning log and outputs\nthis attempt failed; another follows\n{between}"
    )


def test_whether_the_log_and_the_progress_meet(monkeypatch):
    def opened(descriptor):
        return os.fdopen(descriptor, "w")

    read, write = os.pipe()
    with opened(write) as one, opened(os.dup(write)) as same, Path(os.devnull).open("w") as other:
        for out, err, expected in ((one, same, True), (one, other, False)):
            monkeypatch.setattr(sys, "stdout", out)
            monkeypatch.setattr(sys, "stderr", err)
            assert progress_module._is_one_place() is expected
    os.close(read)


@pytest.mark.parametrize(
    "bids,ask,why",
    [
        ([True], 1, " (the only bidder: the most that the call pays)"),
        ([True], 10**6, " (the only bidder)"),  # With the profile quick.
        ([True, True], 1, ""),
        ([True, False], 1, " (the only eligible bidder: the most that the call pays)"),
        ([], 1, ""),
    ],
)
def test_what_set_the_price(bids, ask, why):
    words = Words()
    words.line_of("bids", {"bids": [{"eligible": eligible} for eligible in bids]})
    line = words.line_of("awarded", {**AWARDED, "ask": ask})
    assert line == f"awarded to …abcdefgh for 3.6000 credits an hour{why}"


def test_the_choice(monkeypatch, capsys):
    assert isinstance(choose_progress(as_json=True), Silence)
    assert isinstance(choose_progress(as_json=False), Lines)
    silence = Silence()
    silence.reach("bids", {})
    silence.note("x")
    with silence.beside_output(b"x"):
        pass
    silence.end()
    assert capsys.readouterr() == ("", "")


def test_an_unknown_event_is_shown_as_it_is():
    assert Words().line_of("log-lost", {"provider": "12345678"}) == "log-lost (…12345678)"
