"""Identifiers, units, limits and errors: the terms of every other layer.

Spec: specs/overview.md#layers.
"""
