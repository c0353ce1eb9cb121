"""Blobs by digest: stored on disk, transferred between peers, combined into images.

Spec: specs/data.md.
"""
