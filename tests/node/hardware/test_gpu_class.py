"""Names as drivers give them, and the classes that they must come to.

Spec: specs/capability.md#gpu-classes.
"""

import pytest

from node.hardware.gpu_class import LENGTH_MAX, gpu_class


@pytest.mark.parametrize(
    "name,expected",
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H200 NVL", "h200-nvl"),
        ("NVIDIA H100 80GB HBM3", "h100-80gb"),
        ("NVIDIA H100 PCIe", "h100-80gb"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA GH200 480GB", "gh200-96gb"),
        ("NVIDIA GH200 144G HBM3e", "gh200-144gb"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "a100-40gb-mig-1g-5gb"),
        ("Tesla V100-SXM2-16GB", "v100-16gb"),
        ("Tesla V100-DGXS-32GB", "v100-32gb"),
        ("Tesla T4", "t4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("GeForce RTX 3090", "rtx-3090"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "rtx-4070-ti-super"),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", "rtx-3080-laptop"),
        ("NVIDIA GeForce RTX 2080 Super with Max-Q Design", "rtx-2080-super-max-q"),
        ("NVIDIA GeForce GTX 1060 6GB", "gtx-1060-6gb"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("Quadro RTX 6000", "quadro-rtx-6000"),
        (
            "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
            "rtx-pro-6000-blackwell-workstation",
        ),
        ("NVIDIA TITAN RTX", "titan-rtx"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "h100-80gb-mig-1g-10gb"),
        ("AMD Instinct MI300X", "mi300x"),
        ("AMD Instinct MI250X/MI250", "mi250x-mi250"),
        ("AMD Radeon RX 7900 XTX", "rx-7900-xtx"),
        ("NVIDIA Graphics Device", "unknown"),
        ("", "unknown"),
        ("\x1b[31m…", "31m"),
    ],
)
def test_class_of_a_name(name: str, expected: str) -> None:
    assert gpu_class(name) == expected


def test_class_is_short() -> None:
    assert len(gpu_class("x y " * 100)) <= LENGTH_MAX
