"""Calls that this node answered, as the API shows them.

Spec: specs/bids.md.
"""

from node.provider.proofs import name_of_proof
from node.rpc.views import AnsweredCallView, ResourcesView
from protocol.machines.answers import AnsweredCall, BidResult
from protocol.values.units import hourly_of_rate


def answered_call_view(answered: AnsweredCall) -> AnsweredCallView:
    """Return an answered call with prices in credits an hour."""
    asked, refused = answered.resources, answered.result is BidResult.REFUSED
    return AnsweredCallView(
        call=answered.call_id.hex(),
        at_ms=answered.at_ms,
        requester=answered.requester,
        resources=ResourcesView(asked.cpus, asked.memory_mib, asked.disk_mib, asked.gpus),
        ask_hour=None if refused else hourly_of_rate(answered.ask),
        result=answered.result.value,
        why=answered.why,
        price_hour=hourly_of_rate(answered.price) if answered.price else None,
        awards=answered.awards,
        slots=answered.slots,
        refusal=None if answered.refusal is None else answered.refusal.name.lower(),
        proof=name_of_proof(answered.call_id, answered.fraud) if answered.fraud else None,
    )
