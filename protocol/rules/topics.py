"""The gossip topics: a node subscribes only to calls that it could serve.

Spec: specs/discovery.md#topics.
"""

from typing import Final

from protocol.wire.messages import Call, CapabilityRecord

RECORDS: Final = "record"
"""Capability records of all nodes."""
ANYWHERE: Final = "any"
CPU, GPU = "cpu", "gpu"


def call_topic(call: Call) -> str:
    """Return the one topic that a call is published on."""
    return f"call/{GPU if call.resources.gpus else CPU}/{call.region or ANYWHERE}"


def topics_of(record: CapabilityRecord) -> tuple[str, ...]:
    """Return the topics to which a node with this record subscribes."""
    families = [CPU, *([GPU] if record.gpus else [])] if record.providing else []
    regions = [ANYWHERE, *([record.region] if record.region else [])]
    return (RECORDS, *(f"call/{family}/{region}" for family in families for region in regions))
