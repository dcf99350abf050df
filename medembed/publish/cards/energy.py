"""What a training took of electricity, at most: its measured hours and its hardware in, kilowatt-hours out. An estimate, and called so."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The power that a device is rated for, in watts, by what its driver calls it; from the makers' data sheets. The first that fits counts.
WATTS = {
    r"B200": 1000,
    r"H[12]00.*(PCIe|NVL)": 400,
    r"H[12]00": 700,
    r"A100-PCI": 300,
    r"A100": 400,
    r"L40S": 350,
    r"L4\b": 72,
    r"A10\b": 150,
    r"A10G|A40|A6000|6000 Ada|L40\b|V100": 300,
    r"T4\b": 70,
    r"RTX 5090": 575,
    r"RTX 4090": 450,
    r"RTX 3090": 350,
}
WATTS_OF_A_THREAD = 7  # of a CPU: what servers' processors are rated for, by their cores


@dataclass(frozen=True)
class Estimate:
    """`units` devices (GPUs, or threads of CPUs) at `watts` each, for `hours`."""

    hours: float
    units: int
    unit: str
    watts: int

    @property
    def kwh(self) -> float:
        return self.hours * self.units * self.watts / 1000


def estimate(measured: Mapping[str, Any]) -> Estimate | None:
    """The energy of a training, from what its record has measured; None where the time, or the power of the hardware, is not known."""
    seconds, device, processes = (measured.get(key) for key in ("seconds", "device", "processes"))
    if not isinstance(seconds, int | float) or not isinstance(device, str) or not isinstance(processes, int):
        return None
    if device == "CPU":
        threads = measured.get("threads")
        return (
            Estimate(seconds / 3600, processes * threads, "thread", WATTS_OF_A_THREAD)
            if isinstance(threads, int)
            else None
        )
    watts = next((watts for name, watts in WATTS.items() if re.search(name, device)), None)
    return Estimate(seconds / 3600, processes, "GPU", watts) if watts else None
