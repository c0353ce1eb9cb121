"""A failure is one line and what to do next. Spec: specs/rpc.md#exit-codes."""

import json

from node.cli.failure import CliError


def test_text_and_json():
    failure = CliError("storage-full", "no\nroom")
    assert failure.as_text().startswith("error: no room\n  free some space")
    assert json.loads(failure.as_json())["error"]["detail"] == "no room"
    assert failure.exit_code == 5


def test_a_hint_of_ones_own_and_none():
    assert CliError("x", "y", "do z").as_text() == "error: y\n  do z"
    assert CliError("x", "y").as_text() == "error: y"


def test_a_detail_that_names_the_next_command_needs_no_hint():
    assert CliError("not-found", "no job; see `mutirao jobs`").hint == ""
    assert CliError("not-found", "no job").hint
