"""The way of a job to names of the network that it asked for and the owner allows.

Spec: specs/egress.md.
"""
