"""Messages and the bytes that carry them.

Spec: specs/overview.md#layers.
"""
