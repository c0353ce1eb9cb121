"""The rules of the market as plain functions.

Spec: specs/overview.md#layers.
"""
