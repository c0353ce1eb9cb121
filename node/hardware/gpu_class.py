"""The class of a GPU, a short slug, from the name that its driver reports.

GPUs of one class are equivalent for a job: the same chip with the same memory. The class does not
include the bus or slot type, but includes the memory size if a chip is sold with several.
Spec: specs/capability.md#gpu-classes.
"""

import re
from typing import Final

UNKNOWN: Final = "unknown"
LENGTH_MAX: Final = 40

SILENT: Final = re.compile(
    r"nvidia|geforce|tesla|gpu|generation|edition|graphics|device|with|design"
    r"|sxm\d*|pcie|dgxs|oam|hbm\d*e?|amd|radeon|instinct"
)
"""Words of a name that do not distinguish classes."""

ALIASES: Final = {
    "h100": "h100-80gb",  # The PCIe card's name has no size; there is only one.
    "h800": "h800-80gb",
    "gh200-480gb": "gh200-96gb",  # 480 GB is the processor's memory.
    "gh200-144g": "gh200-144gb",
}
"""Names for which the rules alone fail."""


def gpu_class(name: str) -> str:
    """Return the class of a GPU: lower-case ASCII words, joined by hyphens; never empty."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    slug = "-".join(word for word in words if not SILENT.fullmatch(word))
    return ALIASES.get(slug, slug[:LENGTH_MAX].rstrip("-")) or UNKNOWN
