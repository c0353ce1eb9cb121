"""The class of a GPU, a short slug, from the name that its driver gives it.

Cards of one class are as good as each other for a job: the same chip with the same memory. How
the card is plugged in does not belong to the class, the size of its memory does where a chip is
sold with several.
Spec: specs/capability.md#gpu-classes.
"""

import re
from typing import Final

UNKNOWN: Final = "unknown"
LENGTH_MAX: Final = 40

SILENT: Final = re.compile(
    r"nvidia|geforce|tesla|gpu|generation|edition|graphics|device|with|design"
    r"|sxm\d*|pcie|dgxs|oam|hbm\d*e?"
)
"""Words of a name that do not tell one class from another."""

ALIASES: Final = {
    "h100": "h100-80gb",  # The PCIe card does not say its size; it has but one.
    "h800": "h800-80gb",
    "gh200-480gb": "gh200-96gb",  # 480 GB is the memory of its processor.
    "gh200-144g": "gh200-144gb",
}
"""Names that the rules alone would not bring to the class."""


def gpu_class(name: str) -> str:
    """Return the class of a GPU: lower-case ASCII words, joined by hyphens; never empty."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    slug = "-".join(word for word in words if not SILENT.fullmatch(word))
    return ALIASES.get(slug, slug[:LENGTH_MAX].rstrip("-")) or UNKNOWN
