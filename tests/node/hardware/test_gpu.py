"""What of a GPU can be assigned.

Spec: specs/capability.md#gpus.
"""

from node.hardware.gpu import Gpu, GpuDevice, MigDevice

PART = MigDevice("MIG-1", "NVIDIA A100 MIG 1g.5gb", "a100-mig-1g-5gb", 5_000)


def gpu(*, divided: bool, parts: tuple[MigDevice, ...] = ()) -> Gpu:
    return Gpu(
        "GPU-1", "NVIDIA A100", "a100", 40_000, None, None, None, None, 0, None, None, None, None,
        None, divided, parts,
    )  # fmt: skip


def test_a_gpu_is_assigned_as_a_whole_or_in_parts() -> None:
    assert gpu(divided=False).devices == (GpuDevice("GPU-1", "NVIDIA A100", "a100", 40_000),)
    assert gpu(divided=True, parts=(PART,)).devices == (PART,)
    assert gpu(divided=True).devices == ()  # Prepared for parts, and none is made.
