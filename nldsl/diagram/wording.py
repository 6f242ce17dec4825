"""The words of a level diagram, and about how much room they take."""

from __future__ import annotations

import graphviz

from nldsl.graph import Objective


def human(count: int) -> str:
    """1234567 -> 1.2M"""
    for unit, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= 0.9995 * unit and count > 999:  # 999 999 is 1M
            number = f"{count / unit:.1f}" if count < 99.95 * unit else f"{count / unit:.0f}"
            return number.removesuffix(".0") + letter
    return str(count)


def how(learn: Objective) -> str:
    """How a learn learns, clause by clause."""
    hold = f"hold {learn.hold} for {learn.hold_length} tokens" if learn.hold else ""
    rules = [
        f"by {learn.optimizer.name}" if learn.optimizer and learn.optimizer.name else "",
        f"retaining {learn.retention.name}" if learn.retention and learn.retention.name else "",
    ]
    more = [f"over last {learn.over}" if learn.over else "", f"times {learn.times}" if learn.times > 1 else ""]
    detached = "detached" if learn.detached else ""
    lines = (" ".join(filter(None, rules)), " · ".join(filter(None, (hold, *more, detached))))
    return ("\n" if hold or len(lines[0]) > 16 else " · ").join(filter(None, lines))


def net(name: str) -> str:
    """The net that `rmsnorm_512` or `linear_2` is a use of."""
    last = name.rpartition(".")[2]
    return last.rsplit("_", 1)[0] if last[-1:].isdecimal() else last


def wide_as(text: str, size: float) -> float:
    """About how wide a text is in Helvetica or what stands in for it, a little too much."""
    return size * sum(
        0.32 if c in " .,·'ijl|!:;()[]" else 0.92 if c in "mwMW@%×…" else 0.72 if c.isupper() else 0.61 for c in text
    )


def cut(text: str, length: int = 30) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def plain(text: str) -> str:
    return str(graphviz.escape(text))
