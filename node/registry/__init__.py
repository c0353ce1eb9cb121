"""Pulls images from registries over the OCI distribution protocol.

Spec: specs/registries.md.
"""
