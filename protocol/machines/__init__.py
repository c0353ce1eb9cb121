"""The state machines: states, transitions and the table that says which is when.

Spec: specs/overview.md#layers.
"""
