"""The one loop that drives the core, and its parts: commits, clock, background tasks.

Spec: specs/core.md#driver.
"""
