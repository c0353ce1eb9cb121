"""What people see. Spec: specs/rpc.md#command-line."""

import pytest

from node.cli.output import duration, instant, plain, short_peer, show_fields, show_table


def test_a_peer_cannot_move_the_cursor():
    assert plain("a\x1b[2Jb\r\n\u202ec\u009b é ·") == "a?[2Jb???c? é ·"


def test_tables_and_fields(capsys):
    show_table(("A", "LONG"), [("wide\x07", 1), ("x", "y")])
    show_fields([("a", 1), ("none", None), ("long", "v")])
    assert capsys.readouterr().out == "A      LONG\nwide?  1\nx      y\na     1\nlong  v\n"
    show_table(("A",), [])
    assert capsys.readouterr().out == "A\n"


@pytest.mark.parametrize(
    "ms,text",
    [
        (None, "-"),
        (999, "999 ms"),
        (2500, "2.5 s"),
        (61_000, "1 min 1 s"),
        (12_000_000, "3 h 20 min"),
    ],
)
def test_durations(ms, text):
    assert duration(ms) == text


def test_instants_and_peers():
    assert instant(0) == "1970-01-01 00:00:00Z"
    assert instant(None) == short_peer(None) == "-"
    assert short_peer("12D3KooWabcdefgh") == "…abcdefgh"
