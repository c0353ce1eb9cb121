"""What this node does for its own jobs: follow logs, fetch outputs, and show their state.

Spec: specs/execution.md#results.
"""
