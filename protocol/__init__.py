"""The protocol of the network: pure rules, no I/O.

Spec: specs/overview.md. Layers, each of which may import only those before it:
values, wire, rules, machines, core.
"""

from typing import Final

PROTOCOL_VERSION: Final = 1
