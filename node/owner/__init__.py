"""What the owner decides about the machine while the node runs.

Spec: specs/owner.md.
"""
