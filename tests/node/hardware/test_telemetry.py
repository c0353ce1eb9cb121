"""The watch over the GPUs: a driver that hangs or loses a GPU takes it off, and others stay.

Spec: specs/capability.md#telemetry.
"""

import threading
from collections.abc import Sequence

import pytest
import trio

from node.hardware import telemetry
from node.hardware.gpu import Gpu, GpuReading
from node.hardware.telemetry import GpuTelemetry
from tests.node.fixtures import until
from tests.node.hardware.test_gpu import gpu


class Answers:
    """Another reader: the port that this file's subject reads GPUs by."""

    def __init__(self, *answers: list[GpuReading] | threading.Event, pause_s: int = 0) -> None:
        self.pause_s = pause_s
        self.answers = list(answers)
        self.closed = False

    def read(self, gpus: Sequence[Gpu]) -> list[GpuReading]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, threading.Event):
            answer.wait()
            return []
        return answer

    def close(self) -> None:
        self.closed = True


def watch_by(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> GpuTelemetry:
    monkeypatch.setattr(telemetry, "NvidiaReader", lambda: answers)
    return GpuTelemetry([gpu(divided=False)], lambda: 0)


async def test_a_lost_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers([GpuReading("GPU-1", 50)], [GpuReading("GPU-1", lost="gone")])
    watch = watch_by(answers, monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        with trio.fail_after(10):
            await watch.changed.wait()
            assert (watch.troubles, watch.lost) == ({"GPU-1": "gone"}, {})
            await watch.changed.wait()
        assert watch.troubles == watch.lost == {"GPU-1": "gone"}
        assert watch.readings["GPU-1"].lost == "gone"
        nursery.cancel_scope.cancel()


async def test_the_driver_may_rest_when_the_node_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers([GpuReading("GPU-1", 50)], pause_s=60)
    watch = watch_by(answers, monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await until(lambda: watch.readings)
        nursery.cancel_scope.cancel()
    assert answers.closed


async def test_a_driver_that_hangs_costs_one_thread_and_all_its_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hangs = threading.Event()
    answers = Answers(hangs)
    monkeypatch.setattr(telemetry, "ANSWER_S", 0.01)
    watch = watch_by(answers, monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        with trio.fail_after(10):
            await watch.changed.wait()
        assert "has not answered" in watch.troubles["GPU-1"]
        nursery.cancel_scope.cancel()
    assert not answers.closed  # Nobody speaks to a driver that hangs.
    hangs.set()


async def test_a_machine_without_gpus_is_not_watched() -> None:
    watch = GpuTelemetry([], lambda: 0)
    with trio.fail_after(1):
        await watch.run()
    assert (watch.readings, watch.troubles) == ({}, {})
