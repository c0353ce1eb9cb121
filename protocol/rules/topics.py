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
    wanted = call.resources
    family = _family(wanted.gpu_class) if wanted.gpus else CPU
    return f"call/{family}/{call.region or ANYWHERE}"


def topics_of(record: CapabilityRecord) -> tuple[str, ...]:
    """Return the topics to which a node with this record subscribes."""
    classes = sorted({group.gpu_class for group in record.gpus})
    gpus = [GPU, *map(_family, classes)] if classes else []
    families = [CPU, *gpus] if record.providing else []
    regions = [ANYWHERE, *([record.region] if record.region else [])]
    return (RECORDS, *(f"call/{family}/{region}" for family in families for region in regions))


def _family(gpu_class: str) -> str:
    return f"{GPU}-{gpu_class}" if gpu_class else GPU
