"""The core: routes inputs to the machines and returns their effects.

Spec: specs/overview.md#layers.
"""
