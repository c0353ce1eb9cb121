"""Limits: how they must relate, so that one party's patience outlasts another's delay.

Spec: specs/parameters.md.
"""

import ast
import itertools
from pathlib import Path

from protocol.values import limits as at


def test_every_limit_says_what_it_limits() -> None:
    body = ast.parse(Path(at.__file__).read_text()).body
    for limit, comment in itertools.pairwise(body):
        if isinstance(limit, ast.AnnAssign):
            assert isinstance(comment, ast.Expr), ast.unparse(limit)
            assert ast.unparse(comment).rstrip("'\"").endswith((".", "...")), ast.unparse(limit)


def test_every_limit_is_a_positive_integer_but_the_rule_that_is_off() -> None:
    values = {name: value for name, value in vars(at).items() if name.isupper()}
    assert values.pop("SHIFT_CAP") == 0, "no unopened commitment moves the price"
    assert all(type(value) is int and value > 0 for value in values.values())


def test_an_award_can_be_answered_while_the_bid_binds() -> None:
    assert at.ACCEPT_MS + at.ACTIVE_MS < at.HOLD_MS


def test_the_hold_outlasts_the_confirmation_and_the_deployment_its_answer() -> None:
    assert at.HOLD_MS > at.ACTIVE_MS
    assert at.DEPLOY_WAIT_MS > at.ACTIVE_MS


def test_a_few_heartbeats_may_be_lost() -> None:
    assert at.SILENCE_MS >= 4 * at.HEARTBEAT_MS


def test_vouchers_come_well_before_the_exposure_ends() -> None:
    assert at.EXPOSURE_MS >= 3 * at.VOUCHER_MS
    assert at.EXPOSURE_MS > at.SILENCE_MS


def test_a_lost_provider_is_noticed_before_its_start_message_expires() -> None:
    assert at.STARTED_MS >= at.SILENCE_MS
    assert at.STOP_MS <= at.MESSAGE_MS


def test_a_requester_waits_for_the_bill_of_the_slowest_stop() -> None:
    assert at.RELEASE_MS >= at.STOP_MS + at.HEARTBEAT_MS
    assert at.RELEASE_MS <= at.MESSAGE_MS


def test_records_are_refreshed_long_before_they_expire() -> None:
    assert 3 * at.RECORD_REFRESH_MS < at.RECORD_TTL_MS <= at.RECORD_TTL_MS_MAX


def test_windows_are_within_what_a_call_may_ask() -> None:
    assert max(at.COMMIT_MS, at.REVEAL_MS) <= at.WINDOW_MS_MAX


def test_money_outlives_messages() -> None:
    assert at.MESSAGE_MS < at.SETTLEMENT_MS <= at.RETAIN_MS
