"""The laboratory: networks of many nodes in virtual time, with the code that the node runs.

Spec: specs/simulation.md.
"""
