"""How far a job is, on a terminal and elsewhere. Spec: specs/rpc.md#command-line."""

import io
import sys

from node.cli.progress import Lines, LiveLine, Silence, choose_progress, line_of

WAY = [
    ("announced", {}), ("bids", {}), ("awarded", {"provider": "12D3KooWabcdefgh"}),
    ("fetching", {}),
    ("running", {}), ("retry", {"why": "the provider vanished\x1b[2J"}), ("done", {}),
]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines(capsys):
    progress = Lines()
    for kind, detail in WAY:
        progress.reach(kind, detail)
    progress.log_begins()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "announced, waiting for bids", "the bids are in", "awarded to …abcdefgh",
        "the provider fetches image and inputs", "running",
        "this attempt failed, another follows: the provider vanished?[2J",
    ]  # fmt: skip


def test_a_live_line_until_the_job_runs(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    progress = choose_progress(as_json=False)
    assert isinstance(progress, LiveLine)
    for kind, detail in WAY[:4]:
        progress.reach(kind, detail)
    assert progress._live is not None
    progress.reach(*WAY[4])
    assert progress._live is None
    progress.reach(*WAY[5])
    shown = terminal.getvalue()
    assert "announced → bids → awarded …abcdefgh → fetching" in shown
    assert shown.index("running") > shown.index("fetching")
    assert "vanished?[2J" in shown


def test_the_jobs_own_output_ends_the_live_line(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    progress = LiveLine()
    progress.reach("announced", {})
    progress.log_begins()
    assert progress._live is None
    progress.reach("returning", {})
    assert progress._live is None
    assert "returning what it left" in sys.stderr.getvalue()


def test_the_choice(monkeypatch, capsys):
    assert isinstance(choose_progress(as_json=True), Silence)
    assert isinstance(choose_progress(as_json=False), Lines)
    Silence().reach("bids", {})
    Silence().log_begins()
    assert capsys.readouterr() == ("", "")


def test_an_unknown_event_is_shown_as_it_is():
    assert line_of("log-lost", {"provider": "12345678"}) == "log-lost (…12345678)"
