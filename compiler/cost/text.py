"""A cost as text."""

from __future__ import annotations

from nldsl.compiler.cost.costs import Cost, Row
from nldsl.compiler.cost.devices import Device

from nldsl.table import aligned

HEADS = (
    "parameters", "state, bytes", "train FLOPs", "train bytes", "decode FLOPs", "decode bytes",
)  # fmt: skip


def shown(cost: Cost, device: Device) -> str:
    sizes = f"batch {cost.batch}, {cost.length} tokens, {cost.dtype}"
    return "\n".join(
        [
            f"{cost.program}: {sizes}; state per sequence, all else but parameters per token",
            "",
            *_table("level", cost.levels, cost.total),
            "",
            *_table("block", cost.blocks, cost.total),
            "",
            f"peak memory  training {size(cost.peak)}, decoding {size(cost.decode_peak)}",
            *_floors(cost, device),
        ]
    )


def _table(head: str, rows: tuple[Row, ...], total: Row) -> list[str]:
    cells = [[[head], *([h] for h in HEADS)]]
    for row in (*rows, total):
        numbers = (row.train_flops, row.train_bytes, row.decode_flops, row.decode_bytes)
        cells.append([[row.name], [f"{row.parameters:,}"], [f"{row.state:,.0f}"], *([short(n)] for n in numbers)])
    return list(aligned(cells, HEADS))


def _floors(cost: Cost, device: Device) -> list[str]:
    total = cost.total
    flops = device.flops.get(cost.dtype, 0.0)
    lines = []
    works = (("training", total.train_flops, total.train_bytes), ("decoding", total.decode_flops, total.decode_bytes))
    for what, products, moved in works:
        computing, moving = products / flops, moved / device.bandwidth
        bound = "products" if computing > moving else "memory"
        lines.append(f"{what}  {duration(max(computing, moving))} per token at least, bound by {bound}")
    rates = f"{short(flops)} FLOP/s in {cost.dtype}, {short(device.bandwidth)}B/s"
    return [f"on {device.name} ({rates}), operator by operator", *(f"  {line}" for line in lines)]


def short(number: float) -> str:
    """`12.3M`."""
    for unit in ("", "k", "M", "G", "T"):
        if number < 1000:
            return f"{number:.3g}{unit}" if unit else f"{number:.0f}"
        number /= 1000
    return f"{number:.3g}P"


def size(number: float) -> str:
    """`1.5 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:,.3g} TiB"


def duration(seconds: float) -> str:
    """`12 µs`."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
