"""The demo's job: weather statistics and a small model, with nothing but the standard library.

Reads /in/weather.csv (or the path given), writes a report as JSON to /out/report.json (or the
second path given). Integers and fractions only, so that the result is the same on every machine.
"""

import csv
import json
import sys
from collections import defaultdict
from fractions import Fraction
from pathlib import Path


def main(source: str = "/in/weather.csv", target: str = "/out/report.json") -> None:
    """Make the report."""
    stations = defaultdict(list)
    with Path(source).open(newline="") as file:
        for station, day, tenths in csv.reader(file):
            stations[station].append((int(day), int(tenths)))
    report = {name: summary(sorted(rows)) for name, rows in sorted(stations.items())}
    Path(target).write_text(json.dumps(report, indent=1, sort_keys=True))
    print(f"{sum(map(len, stations.values()))} readings of {len(report)} stations")
    warmest = max(report, key=lambda name: report[name]["warming_per_century"])
    print(f"warming fastest: {warmest}, {report[warmest]['warming_per_century']} degrees a century")


def summary(rows: list[tuple[int, int]]) -> dict[str, float]:
    """Return extremes, mean and the least-squares trend of one station."""
    days = [day for day, _ in rows]
    tenths = [value for _, value in rows]
    count = len(rows)
    mean_day, mean = Fraction(sum(days), count), Fraction(sum(tenths), count)
    covariance = sum((day - mean_day) * (value - mean) for day, value in rows[::7])
    variance = sum((day - mean_day) ** 2 for day in days[::7])
    trend = covariance / variance * 36525 / 10
    return {
        "readings": count,
        "lowest": min(tenths) / 10,
        "highest": max(tenths) / 10,
        "mean": float(round(mean / 10, 3)),
        "warming_per_century": float(round(trend, 3)),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
