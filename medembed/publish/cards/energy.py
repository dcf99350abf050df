"""What a training took of electricity, at most: its measured hours and its hardware in, kilowatt-hours out. An estimate, and called so."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The power that a device is rated for, in watts, by what its driver calls it, as published specifications have it (November 2026). What
# is not among these is not estimated.
WATTS = {
    r"\bB200\b": 1000,
    r"\bH100 PCIe": 350,
    r"\bH100 NVL": 400,
    r"\bH100 .*HBM3": 700,
    r"\bH200 NVL": 600,
    r"\bA100-SXM": 400,
    r"\bA100-PCIE-40GB": 250,
    r"\bA100 80GB PCIe": 300,
    r"\bL40S\b": 350,
    r"\b(L40|A40)\b": 300,
    r"\bL4\b": 72,
    r"\bT4\b": 70,
    r"\bRTX 5090\b": 575,
    r"\bRTX 4090\b": 450,
}
WATTS_OF_A_THREAD = (
    7  # of a CPU: an assumption of ours, of the order of what servers' processors are rated for by their cores
)


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
