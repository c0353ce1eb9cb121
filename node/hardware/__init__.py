"""What this machine has that a job could use: processors, memory, disk and GPUs.

The only folder that imports pynvml (NVIDIA's management library, from nvidia-ml-py).
Spec: specs/capability.md.
"""
