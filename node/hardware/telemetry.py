"""Watches the GPUs of this machine while the node provides: what they report, and their troubles.

`GpuTelemetry.readings` and `.troubles` are plain values that anybody in the node may read.
Spec: specs/capability.md#telemetry.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

import trio

from node.hardware.amd import AmdReader
from node.hardware.gpu import Gpu, GpuReading
from node.hardware.gpu_health import GpuHealth, after_reading, troubles_of
from node.hardware.nvidia import NvidiaReader

LOG: Final = logging.getLogger(__name__)
ANSWER_S: Final = 30
"""A driver that answers nothing for so long hangs."""


class GpuReader(Protocol):
    """Reads the GPUs of one vendor."""

    pause_s: int
    """The pause between two readings."""

    def read(self, gpus: Sequence[Gpu]) -> list[GpuReading]:
        """Return a reading of each assignable device; called in a thread."""
        ...

    def close(self) -> None: ...


class GpuTelemetry:
    """What the GPUs of this machine reported last."""

    def __init__(self, gpus: Sequence[Gpu], now_ms: Callable[[], int]) -> None:
        self.gpus = tuple(gpus)
        self.readings: Mapping[str, GpuReading] = {}
        """The newest reading of each assignable device, by UUID."""
        self.troubles: Mapping[str, str] = {}
        """Why devices must not be lent, by UUID."""
        self.lost: Mapping[str, str] = {}
        """Those of them that have vanished: what runs on them is lost."""
        self._now_ms = now_ms
        self._healths: dict[str, GpuHealth] = {}
        self.changed = trio.Event()
        """Set, and replaced by another, when troubles or losses change."""
        readers: dict[str, Callable[[], GpuReader]] = {"nvidia": NvidiaReader, "amd": AmdReader}
        self._readers: dict[str, GpuReader] = {
            vendor: make() for vendor, make in readers.items()
            if any(gpu.vendor == vendor for gpu in self.gpus)
        }  # fmt: skip

    async def run(self) -> None:
        """Read all GPUs every few seconds, until cancelled."""
        async with trio.open_nursery() as nursery:
            for vendor, reader in self._readers.items():
                nursery.start_soon(self._watch, vendor, reader)

    async def _watch(self, vendor: str, reader: GpuReader) -> None:
        gpus = [gpu for gpu in self.gpus if gpu.vendor == vendor]
        limiter = trio.CapacityLimiter(1)  # A thread in a driver that hangs never ends.
        try:
            while True:
                self.note(await _read(reader, gpus, limiter))
                await trio.sleep(reader.pause_s)
        finally:
            if limiter.available_tokens:
                reader.close()

    def note(self, readings: Sequence[GpuReading]) -> None:
        """Take note of new readings."""
        now_ms = self._now_ms()
        for reading in readings:
            before = self._healths.get(reading.uuid, GpuHealth())
            self._healths[reading.uuid] = after_reading(before, reading, now_ms)
        self.readings = {**self.readings, **{reading.uuid: reading for reading in readings}}
        troubles = troubles_of(self._healths.items())
        lost = {uuid: one.trouble for uuid, one in self._healths.items() if one.is_lost}
        if (troubles, lost) == (self.troubles, self.lost):
            return
        for uuid in sorted({*troubles, *self.troubles}):
            _say_change(uuid, self.troubles.get(uuid, ""), troubles.get(uuid, ""))
        self.troubles, self.lost = troubles, lost
        self.changed.set()
        self.changed = trio.Event()


async def _read(
    reader: GpuReader, gpus: Sequence[Gpu], limiter: trio.CapacityLimiter
) -> list[GpuReading]:
    """Return a reading of each device; all are lost if their driver does not answer in time."""
    with trio.move_on_after(ANSWER_S):
        return await trio.to_thread.run_sync(
            partial(reader.read, gpus), abandon_on_cancel=True, limiter=limiter
        )
    lost = f"its driver has not answered for {ANSWER_S} s: restart the machine"
    return [GpuReading(each.uuid, lost=lost) for gpu in gpus for each in gpu.devices]


def _say_change(uuid: str, before: str, now: str) -> None:
    if now and not before:
        LOG.warning("GPU %s is not lent any more: %s", uuid, now)
    elif before and not now:
        LOG.info("GPU %s is lent again", uuid)
