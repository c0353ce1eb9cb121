"""Exit codes are those of the spec. Spec: specs/rpc.md#exit-codes."""

import re
from pathlib import Path

from node.cli.exit_codes import EXIT_OF_CODE, MEANING, exit_of
from node.rpc.problems import CODE_OF_STATUS
from protocol.values import errors

SPEC = Path(__file__).parents[3] / "specs" / "rpc.md"


def test_the_table_of_the_spec():
    section = SPEC.read_text().split("### Exit codes")[1]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", section, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == MEANING


def test_every_error_of_our_user_has_an_exit_code_of_its_own():
    for kind in (errors.InvalidRequest, errors.NotFound, errors.Conflict, errors.DaemonUnavailable):
        assert kind.code in EXIT_OF_CODE
    assert set(CODE_OF_STATUS.values()) <= EXIT_OF_CODE.keys()
    assert set(EXIT_OF_CODE.values()) <= MEANING.keys()


def test_another_error_is_a_failure():
    assert exit_of("blob-unavailable") == 1
    assert exit_of("config") == 78
