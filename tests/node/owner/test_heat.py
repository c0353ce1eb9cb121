"""Sensors as the kernel shows them, in a folder of the test. Spec: specs/owner.md#heat."""

from pathlib import Path

from node.owner.heat import PowerMeter, processor_celsius


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")


def test_the_hottest_sensor_of_a_processor_counts(tmp_path: Path) -> None:
    assert processor_celsius(tmp_path) is None
    write(tmp_path / "class/thermal/thermal_zone0", type="acpitz", temp=99_000)
    write(tmp_path / "class/thermal/thermal_zone1", type="x86_pkg_temp", temp=51_000)
    assert processor_celsius(tmp_path) == 51
    write(tmp_path / "class/hwmon/hwmon0", name="nvme", temp1_input=88_000)
    write(tmp_path / "class/hwmon/hwmon1", name="coretemp", temp1_input=60_500, temp2_input=71_900)
    assert processor_celsius(tmp_path) == 71
    write(tmp_path / "class/hwmon/hwmon1", temp2_input="")
    assert processor_celsius(tmp_path) == 60, "a sensor that sleeps is no reading"


def test_power_is_the_mean_since_the_last_look(tmp_path: Path) -> None:
    zones = tmp_path / "class/powercap"
    for zone in ("intel-rapl:0", "intel-rapl:1"):
        write(zones / zone, energy_uj=1_000_000, max_energy_range_uj=9_000_000)
    write(zones / "intel-rapl:0:0", energy_uj=0, max_energy_range_uj=9_000_000)
    meter = PowerMeter(tmp_path)
    assert meter.watts(10.0) is None
    write(zones / "intel-rapl:0", energy_uj=3_000_000)
    write(zones / "intel-rapl:0:0", energy_uj=2_000_000)
    write(zones / "intel-rapl:1", energy_uj=500_000)  # It began anew.
    assert meter.watts(10.5) == round((2.0 + 8.5) / 0.5)
    assert meter.watts(10.5) is None, "no time has passed"
    (zones / "intel-rapl:1" / "energy_uj").unlink()
    assert meter.watts(11.0) is None, "a part of the power is not known"


def test_a_machine_without_counters_says_nothing(tmp_path: Path) -> None:
    meter = PowerMeter(tmp_path)
    assert (meter.watts(1.0), meter.watts(2.0)) == (None, None)
