"""The execution context says where a lease lives, and keeps what its container is made of.

Spec: specs/execution.md#executions.
"""

from dataclasses import replace

from node.provider.execution_context import pins_of
from protocol.values.ids import LeaseId, digest_of
from tests.node.fixtures import LEASE, NodeFolder


async def test_each_lease_has_a_folder_of_its_own(bea: NodeFolder) -> None:
    other = LeaseId(b"M" * 32)
    assert bea.context.run_folder(LEASE).parent == bea.context.runs
    assert bea.context.run_folder(LEASE) != bea.context.run_folder(other)
    assert pins_of(LEASE) != pins_of(other)


async def test_pins_are_of_image_parts_and_inputs(bea: NodeFolder) -> None:
    workload = await bea.workload(("a", b"1"))
    bea.context.pin_inputs(LEASE, workload, digest_of(b"part"))
    pinned = bea.blobs._pins[pins_of(LEASE)]
    assert pinned == {workload.image, digest_of(b"part"), digest_of(b"1")}


async def test_what_is_unpacked_of_a_lease_is_protected(bea: NodeFolder) -> None:
    workload = await bea.workload(("a", b"1"), ("b", b"2"))
    file, pack = workload.inputs
    bea.context.pin_unpacked(LEASE, replace(workload, inputs=(file, replace(pack, pack=True))))
    image, name = workload.image.hex(), f"{digest_of(b'2').hex()}.pack"
    assert bea.context.image_cache._pins == {LEASE: {image, name}}
