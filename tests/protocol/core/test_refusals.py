"""The owner learns why calls were not served. Spec: specs/owner.md#refusals."""

from dataclasses import replace
from typing import Any

import pytest

from protocol.core.candidates import Candidates
from protocol.core.core import Core
from protocol.core.directory import Directory
from protocol.core.provider import Provider
from protocol.core.refusals import Refusals
from protocol.core.standings import Standings
from protocol.machines.context import Policy
from protocol.rules.owner_rules import OwnerRules
from protocol.values.reasons import Refusal
from protocol.wire.job import Resources
from protocol.wire.messages import BidRefusal
from tests.driven import POLICY
from tests.protocol.core.test_provider import AMY, ANN, CONTEXT, call, said


def asked(policy: Policy, *calls: Any) -> Provider:
    """Return a provider with this policy that has heard some calls."""
    standings = Standings()
    provider = Provider(Candidates(Directory(), standings), standings, {}, {}, 2)
    for called in calls:
        provider.hear(called, replace(CONTEXT, policy=policy))
    return provider


DENYING = replace(POLICY, rules=OwnerRules(denied_peers=frozenset({ANN.peer_id})))
IMAGES = replace(POLICY, rules=OwnerRules(allowed_images=frozenset({bytes([7]) * 32})))


@pytest.mark.parametrize(
    "policy, called, rule, why",
    [
        (replace(POLICY, providing=False, closed="paused"), call(), "closed", "paused"),
        (
            POLICY,
            call(resources=Resources(5)),
            "cpus",
            "this node has too few CPUs (asked 5, most 4)",
        ),
        (POLICY, call(rate_max=1), "price", "this node asks more than the job may cost"),
        (replace(POLICY, jobs_max=0), call(), "busy", "this node was busy with other jobs"),
        (DENYING, call(), "deny-peers", "this node's owner does not serve the requester, or"),
        (IMAGES, call(), "allow-images", "does not run the image"),
    ],
)
def test_each_refusal_has_its_rule(policy: Policy, called: Any, rule: str, why: str) -> None:
    (refused,) = asked(policy, called).refusals.newest()
    assert (refused.requester, refused.rule, refused.count) == (ANN.peer_id, rule, 1)
    assert why in refused.why


def test_whom_its_owner_does_not_serve_is_told() -> None:
    provider = asked(DENYING)
    (told,) = said(provider.hear(call(), replace(CONTEXT, policy=DENYING)))
    assert isinstance(told, BidRefusal)
    assert told.reason == Refusal.POLICY


def test_one_requester_and_rule_are_one_entry_and_the_newest_comes_first() -> None:
    few = [call(who, nonce=bytes([n]) * 16, resources=Resources(5))
           for n, who in enumerate((ANN, AMY, ANN))]  # fmt: skip
    known = asked(POLICY, *few).refusals.newest()
    assert [(one.requester, one.count) for one in known] == [(ANN.peer_id, 2), (AMY.peer_id, 1)]
    dear = call(AMY, nonce=bytes([9]) * 16, rate_max=1)
    known = asked(POLICY, *few, dear).refusals.newest()
    assert [(one.requester, one.rule) for one in known] == [
        (AMY.peer_id, "price"), (ANN.peer_id, "cpus"),
    ], "only so many are kept"  # fmt: skip


def test_a_call_that_is_served_is_no_refusal_and_a_simulated_node_keeps_none() -> None:
    assert asked(POLICY, call()).refusals.newest() == ()
    none = Refusals(0)
    none.note(ANN.peer_id, "busy", "", CONTEXT)
    assert none.newest() == ()
    assert Core(ANN, POLICY).refusals() == ()
