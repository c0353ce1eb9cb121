"""The windows of calls in slow networks: long enough, and no longer than they must be.

Spec: specs/auction.md#slow-networks.
"""

from dataclasses import replace

import pytest

from protocol.core import windows as module
from protocol.core.jobs import BlockKey, Job, class_of
from protocol.core.windows import DOUBLINGS_MAX, Windows
from protocol.machines.events import Done, Failed
from protocol.rules.matching import demand_of_call
from protocol.values.ids import CallId, JobId
from protocol.values.limits import COMMIT_MS, REVEAL_MS, WIDE_MS, WINDOW_MS_MAX
from protocol.wire.job import QUICK
from tests.driven import START_MS
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy

CALL = replace(class_of(Job(JobId(bytes(16)), job_spec(), START_MS)).call, issued_ms=START_MS)
KEY: BlockKey = demand_of_call(CALL), ()


def call_id(number: int) -> CallId:
    return CallId(bytes([number]) * 32)


def fitted(windows: Windows, now_ms: int = START_MS) -> tuple[int, int]:
    call = windows.fit(CALL, KEY, now_ms)
    return call.commit_ms, call.reveal_ms


def widened(times: int) -> Windows:
    windows = Windows()
    for _ in range(times):
        windows.widen(KEY, START_MS)
    return windows


def test_windows_double_up_to_the_maximum() -> None:
    assert [fitted(widened(times)) for times in range(5)] == [
        (COMMIT_MS, REVEAL_MS), (2 * COMMIT_MS, 2 * REVEAL_MS), (4 * COMMIT_MS, 4 * REVEAL_MS),
        (WINDOW_MS_MAX, WINDOW_MS_MAX), (WINDOW_MS_MAX, WINDOW_MS_MAX),
    ]  # fmt: skip
    assert min(COMMIT_MS, REVEAL_MS) << DOUBLINGS_MAX >= WINDOW_MS_MAX


def test_a_late_answer_widens_if_nobody_came_in_time_and_once() -> None:
    windows = Windows()
    windows.hear_late(call_id(0), START_MS)
    assert fitted(windows) == (COMMIT_MS, REVEAL_MS), "that call sold something"
    windows.lose(KEY, call_id(0))
    for _ in range(2):
        windows.hear_late(call_id(0), START_MS)
    assert fitted(windows) == (2 * COMMIT_MS, 2 * REVEAL_MS)


def test_few_lost_calls_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOST_MAX", 1)
    windows = Windows()
    for number in range(2):
        windows.lose(KEY, call_id(number))
    windows.hear_late(call_id(0), START_MS)
    assert fitted(windows) == (COMMIT_MS, REVEAL_MS)


def test_a_sale_narrows_only_if_half_the_windows_would_have_done() -> None:
    slow, quick = widened(2), widened(2)
    call = slow.fit(CALL, KEY, START_MS)
    half_ms = (call.commit_ms + call.reveal_ms) // 2
    slow.narrow(KEY, call, START_MS + half_ms)
    quick.narrow(KEY, call, START_MS + half_ms - 1)
    assert fitted(slow) == (4 * COMMIT_MS, 4 * REVEAL_MS)
    assert fitted(quick) == (2 * COMMIT_MS, 2 * REVEAL_MS)
    for _ in range(3):
        quick.narrow(KEY, call, START_MS)
    assert fitted(quick) == (COMMIT_MS, REVEAL_MS)


def test_windows_are_as_usual_again_after_a_while() -> None:
    windows = widened(3)
    assert fitted(windows, START_MS + WIDE_MS) == (COMMIT_MS, REVEAL_MS)
    windows.widen(KEY, START_MS + WIDE_MS)
    assert fitted(windows, START_MS + WIDE_MS) == (2 * COMMIT_MS, 2 * REVEAL_MS)


def test_other_demands_are_not_concerned_and_few_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DEMANDS_MAX", 1)
    windows = widened(1)
    other = replace(CALL, region="sa-east")
    assert windows.fit(other, (demand_of_call(other), ()), START_MS) == other
    windows.widen((demand_of_call(other), ()), START_MS)
    assert fitted(windows) == (COMMIT_MS, REVEAL_MS)


@pytest.mark.parametrize("profile", [QUICK, job_spec().terms.profile], ids=["quick", "vickrey"])
@pytest.mark.parametrize("delay_ms", [400, 1_000, 2_000])
def test_a_job_finds_its_provider_in_a_slow_network(delay_ms: int, profile: int) -> None:
    """With usual windows no bid would ever be opened in time."""
    network = SimulatedNetwork(delay_ms=(delay_ms, delay_ms + 1), job_ms=500)
    ann, _ = network.add("ann"), network.add("ben", provider_policy())
    network.meet()
    job_id = network.submit(ann, job_spec(profile=profile))
    assert network.run_until(lambda: network.ended(ann, job_id), 120_000)
    assert isinstance(ann.disk.events[job_id][-1], Done)


def test_bidders_that_never_open_their_bids_cost_a_bounded_time() -> None:
    network = SimulatedNetwork(job_ms=500)
    ann, _ = network.add("ann"), network.add("ben", provider_policy())
    network.meet()
    network.drop = lambda _sender, _receiver, message: type(message).__name__ == "BidReveal"
    job_id = network.submit(ann, job_spec(queue_ms=60_000))
    assert network.run_until(lambda: network.ended(ann, job_id), 90_000)
    assert isinstance(ann.disk.events[job_id][-1], Failed)
