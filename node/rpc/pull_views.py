"""What the API says of an image that is pulled from a registry.

Spec: specs/registries.md#api.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PullView:
    """What a reference refers to now, for one platform; `size` is that of all blobs in bytes."""

    reference: str
    digest: str
    platform: str
    size: int
