"""The state machines: states, transitions and their tables.

Spec: specs/overview.md#layers.
"""
