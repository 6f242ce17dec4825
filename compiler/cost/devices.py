"""Devices by name: how fast they multiply and how fast they read, as their makers say."""

from __future__ import annotations

from dataclasses import dataclass

BFLOAT16, FLOAT32 = "bfloat16", "float32"


@dataclass(frozen=True)
class Device:
    """flops: FLOP/s of dense matrix products at most, by dtype. bandwidth: bytes/s of its main memory at most."""

    name: str
    flops: dict[str, float]
    bandwidth: float


# Data sheets: dense products without sparsity; float32 is that of the plain units, without TF32.
DEVICES = {
    "h200": Device("NVIDIA H200 SXM", {BFLOAT16: 989e12, FLOAT32: 67e12}, 4.8e12),
    "h100": Device("NVIDIA H100 SXM", {BFLOAT16: 989e12, FLOAT32: 67e12}, 3.35e12),
    "a100": Device("NVIDIA A100 SXM 80 GB", {BFLOAT16: 312e12, FLOAT32: 19.5e12}, 2.039e12),
    "l4": Device("NVIDIA L4", {BFLOAT16: 121e12, FLOAT32: 30.3e12}, 300e9),
}


def device_of(name: str, dtype: str, peak: float | None, bandwidth: float | None) -> Device:
    """The device of this name, or one with these figures. Raises ValueError for a name that stands in no row."""
    known = DEVICES.get(name.lower())
    if known is None and (peak is None or bandwidth is None):
        raise ValueError(
            f"no figures are known of `{name}`: give --peak FLOP/S and --bandwidth BYTES/S, or one of "
            f"{', '.join(DEVICES)}"
        )
    if known is None:
        known = Device(name, {}, 0.0)
    return Device(known.name, known.flops | ({dtype: peak} if peak else {}), bandwidth or known.bandwidth)
