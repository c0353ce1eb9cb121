"""The resources of this machine: processors, memory, disk and GPUs.

The only folder that imports pynvml (NVIDIA's management library, from nvidia-ml-py).
Spec: specs/capability.md.
"""
