"""One node of the network: all waiting and all foreign libraries are here.

Spec: specs/overview.md.
"""

from typing import Final

VERSION: Final = "0.1.0"
