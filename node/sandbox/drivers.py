"""The table of sandbox drivers. To add one, add a file with its class, and a row here.

The configuration, the choice at a node's start, the probe and the tests read this table. It names
the classes without importing them: reading the configuration does not wait for docker-py.

Spec: specs/sandbox.md#drivers.
"""

from typing import Final

DRIVERS: Final = {
    "docker": "node.sandbox.docker_driver:DockerDriver",
    "embedded": "node.sandbox.embedded:EmbeddedDriver",
}
"""Name and class of each, in the order in which `auto` tries them. `check` is its self-test."""
AUTO: Final = "auto"
"""Selects the first driver that passes its self-test."""
