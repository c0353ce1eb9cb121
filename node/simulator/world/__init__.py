"""What a simulated world is like: each aspect has models, and others may add theirs.

Spec: specs/simulation-world.md.
"""
