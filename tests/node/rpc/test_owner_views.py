"""What the owner decides, as JSON. Spec: specs/rpc.md#views."""

from pydantic import TypeAdapter

from node.rpc.owner_views import OwnerView


def test_a_node_that_takes_jobs_is_not_closed():
    plain = TypeAdapter(OwnerView).dump_python(OwnerView("open", "", 2))
    assert plain == {"mode": "open", "closed": "", "jobs": 2, "until_ms": None, "conditions": ()}
