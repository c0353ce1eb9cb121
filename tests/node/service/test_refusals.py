"""What an owner can change. Spec: specs/owner.md#refusals."""

from node.service.refusals import REMEDIES, refusal_view
from protocol.core.refusals import OwnRefusal
from protocol.values.reasons import Mismatch, Refusal
from tests.node.fixtures import ADA


def test_a_remedy_belongs_to_a_rule_that_exists() -> None:
    lists = {f"{what}-{whom}" for what in ("allow", "deny") for whom in ("peers", "images")}
    rules = {*Mismatch, *(reason.name.lower() for reason in Refusal), *lists, "closed", "calls"}
    assert REMEDIES.keys() <= rules


def test_where_nothing_helps_nothing_is_proposed() -> None:
    unpaid = refusal_view(OwnRefusal(5, ADA.peer_id, "unpaid", "it owes too much", 3))
    assert (unpaid.remedy, unpaid.count, unpaid.at_ms) == ("", 3, 5)
    assert "provider.cpus" in refusal_view(OwnRefusal(5, ADA.peer_id, "cpus", "", 1)).remedy
