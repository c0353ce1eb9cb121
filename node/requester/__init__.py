"""What this node does for its own jobs: follow logs, fetch outputs, tell what happened.

Spec: specs/execution.md#results.
"""
