"""What is fair and what is allowed, as plain functions.

Spec: specs/overview.md#layers.
"""
