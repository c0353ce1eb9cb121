"""The daemon: puts the parts of a node together, runs them, and takes them apart in order.

Spec: specs/core.md#daemon.
"""

from node.daemon.compose import run_daemon

__all__ = ["run_daemon"]
