"""The tier `stack`: whole nodes in one process, in virtual time.

Spec: specs/simulation.md#stack.
"""
