"""Whom and what a provider's owner serves, and the least price of each class of GPUs.

Spec: specs/owner.md#who-is-served.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from protocol.rules.capacity import Device, suits
from protocol.values.ids import Digest, PeerId
from protocol.wire.job import Resources


@dataclass(frozen=True, slots=True)
class OwnerRules:
    """The lists of the owner. An empty list of what is allowed allows everything."""

    allowed_peers: frozenset[PeerId] = frozenset()
    denied_peers: frozenset[PeerId] = frozenset()
    allowed_images: frozenset[Digest] = frozenset()
    denied_images: frozenset[Digest] = frozenset()
    gpu_floors: tuple[tuple[str, int], ...] = ()
    """The least rate of a GPU, by its class."""


NO_RULES: Final = OwnerRules()


def objection(rules: OwnerRules, requester: PeerId, image: Digest) -> str:
    """Return the list by which a requester or an image is not served; empty if both are."""
    if requester in rules.denied_peers:
        return "deny-peers"
    if rules.allowed_peers and requester not in rules.allowed_peers:
        return "allow-peers"
    return image_objection(rules, image)


def image_objection(rules: OwnerRules, image: Digest) -> str:
    """Return the list by which an image is not run; empty if it is."""
    if image in rules.denied_images:
        return "deny-images"
    if rules.allowed_images and image not in rules.allowed_images:
        return "allow-images"
    return ""


def least_ask(rules: OwnerRules, wanted: Resources, left: Iterable[Device], floor: int) -> int:
    """Return the least ask for a slot whose GPUs may be any that suit it; 0 if no floor applies.

    `floor` is that of the processors and the memory of the slot.
    """
    floors = dict(rules.gpu_floors)
    rates = [
        floors[device.gpu_class] for device in left
        if device.gpu_class in floors and suits(wanted, device)
    ]  # fmt: skip
    return floor + max(rates) * wanted.gpus if wanted.gpus and rates else 0
