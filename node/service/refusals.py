"""Why this node did not serve calls, and what its owner can change.

Spec: specs/owner.md#refusals.
"""

from collections.abc import Mapping
from typing import Final

from node.rpc.owner_views import RefusalView
from protocol.core.refusals import OwnRefusal

REMEDIES: Final[Mapping[str, str]] = {
    "closed": "`mutirao resume`, or the condition in provider.hours, idle_s, …",
    "not-providing": "provider.enabled, or a sandbox that works: see `mutirao status`",
    "cpus": "lend more: provider.cpus",
    "memory": "lend more: provider.memory_mib",
    "disk": "lend more: provider.disk_mib",
    "gpus": "lend more: provider.gpus",
    "region": "provider.region, if this machine is there",
    "driver": "provider.sandbox, if that sandbox works here",
    "soft-limits": "run the node in a control group of its own: see specs/sandbox.md",
    "deny-peers": "take the peer off provider.deny_peers",
    "allow-peers": "add the peer to provider.allow_peers",
    "deny-images": "take the image off provider.deny_images",
    "allow-images": "add the image to provider.allow_images",
    "busy": "lend more, or raise provider.jobs_max",
    "price": "lower the prices: price.floor_percent, price.gpu_floor_hour, or price.cpu_hour, …",
}
"""What an owner can change, by the rule. Nothing helps against the others, such as a machine that
lacks a GPU, or a requester that does not pay."""


def refusal_view(refused: OwnRefusal) -> RefusalView:
    """Return a refusal for the owner."""
    remedy = REMEDIES.get(refused.rule, "")
    return RefusalView(
        refused.at_ms, refused.requester, refused.rule, refused.why, remedy, refused.count
    )
