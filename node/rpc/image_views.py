"""What the API says of images, here or in a registry.

Spec: specs/rpc.md#views.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PullView:
    """What a reference refers to now, for one platform; `size` is that of all blobs in bytes."""

    reference: str
    digest: str
    platform: str
    size: int


@dataclass(frozen=True, slots=True)
class ImageView:
    """An image that this node stores, and the names that its user gave it."""

    digest: str
    names: tuple[str, ...]
    size: int
    created_ms: int | None = None
