"""The table of sandbox drivers. To add one, add a file with its class, and a row here.

The configuration, the choice at a node's start, the probe and the tests read this table. It names
the classes without importing them: reading the configuration does not wait for docker-py.

Spec: specs/sandbox.md#drivers.
"""

from typing import Final

DRIVERS: Final = {
    "docker": "node.sandbox.docker_driver:DockerDriver",
    "embedded": "node.sandbox.embedded:EmbeddedDriver",
    "gvisor": "node.sandbox.gvisor:GvisorDriver",
}
"""Name and class of each. `check` is its self-test."""
AUTO: Final = "auto"
AUTO_ORDER: Final = ("docker", "embedded")
"""What `auto` tries, until one passes its self-test: the others cost jobs time or features."""
