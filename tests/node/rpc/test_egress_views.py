"""What a job reached as JSON. Spec: specs/rpc.md#views."""

from dataclasses import fields

from node.egress.log import Reached
from node.rpc.egress_views import ReachedView


def test_the_view_has_all_of_a_line_of_the_log():
    assert [each.name for each in fields(ReachedView)] == [each.name for each in fields(Reached)]
