"""What was paid lately, from receipts and from outcomes. Spec: specs/bids.md#prices."""

from dataclasses import replace

from node.service.prices import paid_price_view, sale_of_call
from protocol.machines.answers import AnsweredCall, BidResult
from protocol.rules.paid_prices import PaidPrice, Sale
from protocol.values.ids import CallId, PeerId
from protocol.wire.job import Resources
from protocol.wire.messages import CapabilityRecord
from tests.node.local_node import LocalPair

OWN, EVE = PeerId("own"), PeerId("eve")
LOST = AnsweredCall(
    CallId(bytes(32)),
    5,
    PeerId("ann"),
    Resources(2),
    900,
    BidResult.LOST,
    "",
    800,
    winner=EVE,
)
RECORDS = {OWN: CapabilityRecord(1, 1, 1, (), True), EVE: CapabilityRecord(2, 1, 1, (), True)}


def test_an_auction_that_this_node_saw() -> None:
    assert sale_of_call(LOST, OWN, RECORDS.get) == Sale(Resources(2), 800, 5, RECORDS[EVE])
    won = replace(LOST, awards=1, price=950)
    assert sale_of_call(won, OWN, RECORDS.get) == Sale(Resources(2), 950, 5, RECORDS[OWN])
    assert sale_of_call(replace(LOST, winner=None), OWN, RECORDS.get) is None
    assert sale_of_call(LOST, OWN, {}.get) == Sale(Resources(2), 800, 5, None)


def test_prices_an_hour() -> None:
    view = paid_price_view(PaidPrice("cpu", "europe", 2, 277_778, 277_778, 555_556, 9))
    assert (view.lowest_hour, view.highest_hour, view.latest_ms) == ("1.0000", "2.0000", 9)


async def test_both_sides_of_a_job_know_what_was_paid(pair: LocalPair) -> None:
    assert await pair.ada.node.service.prices() == ()
    running = await pair.running()
    assert await pair.ada.node.service.prices() == (), "nothing is paid yet"
    view = await pair.finish(running)
    (paid,) = await pair.ada.node.service.prices()
    assert (paid.slot_class, paid.count, paid.latest_ms) == ("cpu", 1, view.ended_ms)
    assert paid.lowest_hour == paid.highest_hour == view.price_hour
    (agreed,) = await pair.bea.node.service.prices()
    assert (agreed.count, agreed.median_hour) == (1, view.price_hour)
    await pair.ada.crash()
    await pair.network.start(pair.ada)
    await pair.network.acquainted()
    assert await pair.ada.node.service.prices() == (paid,), "receipts are stored"
