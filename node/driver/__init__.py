"""The one loop that lets the core meet the world, and what it needs: commits, clock, background.

Spec: specs/core.md#driver.
"""
