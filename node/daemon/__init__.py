"""The daemon: assembles a node, runs it, and stops it in order.

Spec: specs/core.md#daemon.
"""

from node.daemon.compose import run_daemon

__all__ = ["run_daemon"]
