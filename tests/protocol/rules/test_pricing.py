"""What a provider lists and asks, what a job without a price pays at most, and why it is fair.

Spec: specs/pricing.md.
"""

from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.capacity import Capacity, Device
from protocol.rules.pricing import (
    FLOOR_PERCENTS,
    PPM,
    Cap,
    ask_of,
    cap_of,
    floor_percent_of,
    list_rate,
    load_of,
)
from protocol.rules.selection import Offer, price_of, rank
from protocol.values.ids import ContentId, PeerId
from protocol.values.units import RATE_MAX
from protocol.wire.job import VICKREY, Resources
from protocol.wire.messages import Bid, Call, Prices
from tests.strategies import SIGNERS, records

LISTED = st.lists(st.integers(0, 10**13), min_size=1, max_size=30)
PERCENTS, LOADS, RATES = st.integers(0, 100), st.integers(0, PPM), st.integers(0, RATE_MAX)
TIE_BREAK = ContentId(bytes(32))


# The list price.


def test_a_slot_costs_the_sum_of_its_parts() -> None:
    prices = Prices(cpu=1_000, memory_gib=100, gpu=50_000)
    assert list_rate(prices, Resources(cpus=2, memory_mib=2_048, gpus=3)) == 152_200


def test_memory_is_rounded_up_in_the_providers_favour() -> None:
    assert list_rate(Prices(memory_gib=1), Resources(memory_mib=16)) == 1
    assert list_rate(Prices(memory_gib=1), Resources(memory_mib=1_025)) == 2


@given(records(Prices), records(Resources))
def test_more_never_costs_less(prices: Prices, wanted: Resources) -> None:
    more = Resources(wanted.cpus + 1, wanted.memory_mib + 1, wanted.disk_mib, wanted.gpus + 1)
    assert 0 <= list_rate(prices, wanted) <= list_rate(prices, more)


# The ask.


@given(RATES, PERCENTS, LOADS)
def test_an_ask_lies_between_the_floor_and_the_list_price(
    listed: int, floor: int, load: int
) -> None:
    assert listed * floor <= 100 * ask_of(listed, floor, load) <= 100 * listed


def test_an_idle_node_asks_its_floor_and_the_last_slot_costs_the_list_price() -> None:
    assert [ask_of(1_000, 60, load) for load in (0, PPM // 2, PPM)] == [600, 800, 1_000]


@given(RATES, PERCENTS, st.tuples(LOADS, LOADS).map(sorted))
def test_an_ask_never_falls_with_the_load(listed: int, floor: int, loads: list[int]) -> None:
    assert ask_of(listed, floor, loads[0]) <= ask_of(listed, floor, loads[1])


def test_the_scarcest_resource_is_the_load() -> None:
    devices = tuple(Device(f"GPU-{number}", "h100", 80_000) for number in range(4))
    total = Capacity(8, 1_000, 10, devices)
    assert load_of(total, total) == 0
    assert load_of(total, Capacity(6, 250, 0, devices)) == 750_000
    assert load_of(total, Capacity(8, 1_000, 10, devices[:1])) == 750_000
    assert load_of(Capacity(), Capacity()) == 0


def test_floors_that_are_not_set_differ_from_node_to_node() -> None:
    drawn = {floor_percent_of(signer.secret(b"floor", b"")) for signer in SIGNERS}
    assert len(drawn) > 3
    assert all(percent in FLOOR_PERCENTS for percent in drawn)


# The cap of a job that names no price.


def caps_of(listed: list[int], answered: list[int], percent: int = 200) -> list[int]:
    """Return the caps of a job for which nobody ever bids."""
    caps: list[int] = []
    while cap := cap_of(listed, answered, caps[-1] if caps else 0, percent):
        caps.append(cap.rate)
    return caps


def test_the_first_cap_is_the_lowest_list_price() -> None:
    cap = cap_of([300, 100, 200], [], 0, 200)
    assert cap is not None
    assert cap.rate == 100
    assert cap.why == "the lowest list price of the 3 nodes known to be able to run it"
    assert cap_of([], [], 0, 200) is None


def test_a_cap_is_raised_by_steps_and_then_no_more() -> None:
    listed = [100, 120, 140, 160, 180, 200, 220, 240]
    assert caps_of(listed, listed, 150) == [100, 140, 180, 240]
    raised = [cap_of(listed, listed, above, 150) for above in (100, 140, 180)]
    assert all(cap and "nobody bid for less" in cap.why for cap in raised)
    far = [*listed, 1_000]
    assert [caps_of(far, far, percent)[-1] for percent in (150, 900)] == [270, 1_000]


def test_a_doubted_job_begins_with_the_median() -> None:
    """The cheapest nodes may all say so falsely that they cannot start it."""
    listed = [100, 120, 140, 160, 180, 200, 220, 240]
    first = cap_of(listed, listed, 0, 150, is_doubted=True)
    assert first == Cap(180, "the median list price: a cheaper node could not start the job")
    last = cap_of(listed, listed, 180, 150, is_doubted=True)
    assert last is not None
    assert last.rate == 240
    assert cap_of(listed, listed, 240, 150, is_doubted=True) is None


def test_steps_that_would_not_raise_it_are_left_out() -> None:
    assert caps_of([100, 150], []) == [100, 150]
    assert caps_of([0], []) == [1]


def test_a_lone_node_gains_nothing_by_waiting() -> None:
    assert caps_of([100], [100], 10_000) == [100]


def test_a_price_that_has_gone_since_does_not_end_the_raising() -> None:
    cap = cap_of([500], [], 100, 200)
    assert cap is not None
    assert cap.rate == 500


def test_false_records_do_not_keep_a_job_from_the_price_of_nodes_that_answer() -> None:
    cheap, dear, honest = [1] * 50, [10**9] * 50, [100, 110, 120]
    for false in (cheap, dear, cheap + dear):
        caps = caps_of(false + honest, honest)
        assert 110 in caps
        assert caps[-1] == 120


@given(LISTED, st.data())
def test_caps_grow_and_stay_below_the_users_multiple(
    listed: list[int], data: st.DataObject
) -> None:
    answered = data.draw(st.lists(st.sampled_from(listed)))
    percent = data.draw(st.integers(100, 10_000))
    caps = caps_of(listed, answered, percent)
    median = sorted(answered or listed)[len(answered or listed) // 2]
    assert 1 <= len(caps) <= 4
    assert caps == sorted(set(caps))
    highest = min(median * percent // 100, max(listed), RATE_MAX)
    assert all(1 <= cap <= max(1, highest) for cap in caps)


# The two together: what a bidder gains, with no failed commitment.


def call_with(cap: int) -> Call:
    return Call(
        bytes(16), VICKREY, 0, Resources(), cap, 600_000, 1_200, 900, 6_000, 1, bytes(32), 0
    )


def gain(own: int, cost: int, others: list[int], cap: int) -> tuple[bool, int]:
    """Return whether the first bidder wins, and what it earns beyond its cost."""
    call, asks = call_with(cap), (own, *others)
    ranking = rank(
        call, TIE_BREAK,
        (Offer(PeerId(f"{n}"), Bid(ask, "embedded", 1, 10_000, 35_000, 0), b"")
         for n, ask in enumerate(asks)),
    )  # fmt: skip
    if not ranking or ranking[0].peer != "0":
        return False, 0
    rate = price_of(call, ranking, {ranking[0].peer: 1}, (ranking[0], 0), 0).rate
    assert own <= rate <= cap, "individually rational, and never above the cap"
    return True, rate - cost


@given(
    st.integers(1, 1_000), st.integers(50, 100), st.integers(0, PPM), st.integers(0, 1_500),
    st.lists(st.integers(1, 1_500), max_size=5),
)  # fmt: skip
def test_asking_something_else_gains_nothing(
    listed: int, percent: int, load: int, other: int, rivals: list[int]
) -> None:
    cap = cap_of([listed, *rivals], [], 0, 200)
    assert cap is not None
    ask = ask_of(listed, percent, load)
    won, earned = gain(ask, ask, rivals, cap.rate)
    assert earned >= 0
    assert gain(other, ask, rivals, cap.rate)[1] <= earned
    if won and other <= ask:
        assert gain(other, ask, rivals, cap.rate)[0], "a lower ask never loses"
