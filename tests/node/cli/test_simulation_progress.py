"""The bars of simulations: on a terminal alone.

Spec: specs/simulation.md#command-line.
"""

import io
from contextlib import redirect_stderr

import pytest

from node.cli.simulation_progress import run_progress, sweep_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


def test_a_run_shows_virtual_against_real_time(terminal):
    with redirect_stderr(terminal), run_progress(as_json=False) as show:
        show(5_000, 10_000)
    assert "5 of 10 virtual seconds" in terminal.getvalue()
    assert "x real time" in terminal.getvalue()


def test_a_sweep_shows_how_many_runs_are_done(terminal):
    with redirect_stderr(terminal), sweep_progress(4, 1, as_json=False) as advance:
        advance()
    assert "2/4" in terminal.getvalue()


def test_programs_and_files_get_no_bar(terminal):
    with redirect_stderr(terminal), run_progress(as_json=True) as show:
        show(1, 2)
    with redirect_stderr(terminal), sweep_progress(2, 0, as_json=True) as advance:
        advance()
    assert terminal.getvalue() == ""
    file = io.StringIO()
    with redirect_stderr(file), run_progress(as_json=False) as show:
        show(1, 2)
    assert file.getvalue() == ""
