"""Identifiers, units, limits and errors: what every other layer speaks of.

Spec: specs/overview.md#layers.
"""
