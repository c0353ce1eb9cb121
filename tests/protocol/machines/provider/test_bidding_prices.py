"""What a bid asks for GPUs whose owner names a least price. Spec: specs/pricing.md#ask."""

from dataclasses import replace

from protocol.machines.provider.bidding import answer_call
from protocol.rules.capacity import Capacity, Device
from protocol.rules.owner_rules import OwnerRules
from protocol.wire.job import QUICK, Resources
from protocol.wire.messages import Prices
from tests.driven import POLICY
from tests.protocol.machines.provider.test_bidding import CALL, CONTEXT, REQUESTER
from tests.strategies import SIGNERS


def test_a_slot_with_gpus_asks_at_least_the_floor_of_their_class() -> None:
    devices = tuple(Device(f"GPU-{n}", "h100-80gb", 81_559) for n in range(2))
    total = Capacity(4, 8_192, 50_000, devices)
    policy = replace(POLICY, capacity=total, prices=Prices(10, 0, 1_000), floor_percent=50)
    wanted = Resources(2, gpus=1)
    asks = []
    for floor in (0, 800, 5_000):
        rules = OwnerRules(gpu_floors=(("h100-80gb", floor),))
        context = replace(CONTEXT, policy=replace(policy, rules=rules))
        called = SIGNERS[REQUESTER].sign(replace(CALL, resources=wanted, profile=QUICK))
        asks.append(answer_call(called, total, 0, context)[0].bidding.bid.ask)
    assert asks == [510, 810, 1_020], "never more than the list price"
