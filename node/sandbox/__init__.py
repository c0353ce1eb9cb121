"""Isolates strangers' code: one policy, two drivers, and a runner that outlives the daemon.

Start with driver.py (what the daemon sees), then policy.py (what a job gets), then runner/.

Spec: specs/sandbox.md.
"""
