"""Capacity: what is handed out was there, and nothing is handed out twice.

Spec: specs/lease.md#capacity.
"""

from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.capacity import Capacity, Device, Reservation, left_of, reserve, without
from protocol.values.units import nominal_vram
from protocol.wire.job import Resources

DEVICES = st.builds(
    Device, st.uuids().map(str), st.sampled_from(["a", "b"]), st.integers(0, 100_000)
)
CAPACITIES = st.builds(
    Capacity, st.integers(0, 16), st.integers(0, 9_000), st.integers(0, 9_000),
    st.lists(DEVICES, max_size=6, unique_by=lambda device: device.uuid).map(tuple),
)  # fmt: skip
WANTED = st.builds(
    Resources, st.integers(1, 6), st.integers(16, 4_000), st.integers(1, 4_000),
    st.integers(0, 3), st.sampled_from(["", "a", "b"]), st.sampled_from([0, 1_000, 90_000]),
)  # fmt: skip


@given(CAPACITIES, st.lists(WANTED, max_size=12))
def test_reservations_never_exceed_what_is_there(total: Capacity, wishes: list[Resources]) -> None:
    taken: list[Reservation] = []
    for wanted in wishes:
        reservation = reserve(left_of(total, taken), wanted)
        if reservation is not None:
            taken.append(reservation)
    assert sum(item.resources.cpus for item in taken) <= total.cpus
    assert sum(item.resources.memory_mib for item in taken) <= total.memory_mib
    assert sum(item.resources.disk_mib for item in taken) <= total.disk_mib
    uuids = [uuid for item in taken for uuid in item.devices]
    assert len(set(uuids)) == len(uuids)
    assert set(uuids) <= {device.uuid for device in total.devices}


@given(CAPACITIES, WANTED)
def test_devices_are_of_the_wanted_kind(total: Capacity, wanted: Resources) -> None:
    reservation = reserve(total, wanted)
    if reservation is None:
        return
    chosen = [device for device in total.devices if device.uuid in reservation.devices]
    assert len(chosen) == wanted.gpus
    assert all(nominal_vram(device.vram_mib) >= wanted.vram_mib for device in chosen)
    assert all(wanted.gpu_class in {"", device.gpu_class} for device in chosen)


@given(CAPACITIES, WANTED)
def test_what_is_there_can_be_reserved(total: Capacity, wanted: Resources) -> None:
    enough = (
        wanted.cpus <= total.cpus
        and wanted.memory_mib <= total.memory_mib
        and wanted.disk_mib <= total.disk_mib
        and wanted.gpus == 0
    )
    if enough:
        assert reserve(total, wanted) == Reservation(wanted)


def test_less_than_nothing_is_nothing() -> None:
    """The owner lends less than before."""
    over = [Reservation(Resources(4, 4_096, 4_096))] * 2
    assert left_of(Capacity(4, 4_096, 4_096), over) == Capacity(0, 0, 0)
    assert reserve(Capacity(0, 0, 0), Resources()) is None


def test_released_capacity_is_free_again() -> None:
    device = Device("gpu", "a", 1)
    total = Capacity(1, 16, 1, (device,))
    wanted = Resources(1, 16, 1, 1)
    first = reserve(total, wanted)
    assert first is not None
    assert reserve(left_of(total, [first]), wanted) is None
    assert reserve(left_of(total, []), wanted) == first


def test_some_gpus_can_be_left_out() -> None:
    total = Capacity(1, 2, 3, (Device("GPU-1", "a", 1), Device("GPU-2", "a", 1)))
    assert without(total, ()) is total
    assert without(total, {"GPU-1", "GPU-9"}) == Capacity(1, 2, 3, total.devices[1:])
