"""The core: routes inputs to the machines and gives back effects.

Spec: specs/overview.md#layers.
"""
