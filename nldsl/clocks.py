"""How often things change: the period of every memory, the clock of every stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from nldsl.graph import Body, Memory, Objective, Period, Record, Stream, changed

NEVER = Period(1, "never")
_UNITS = ("token", "update", "step", "never")


def order(period: Period) -> tuple[int, int]:
    """Sorts periods from fast to slow: any token period is shorter than any step period."""
    return max(1, _UNITS.index(period.unit)), period.count


def fastest(periods: Iterable[Period], otherwise: Period = NEVER) -> Period:
    found = list(periods)
    if not found or found.count(found[0]) == len(found):  # the most usual case
        return found[0] if found else otherwise
    return min(found, key=order)


def periods(records: Iterable[Record], unit: str = "token") -> dict[str, Period]:
    """The period of each memory of a body: its fastest write, closed forms 0."""
    written: dict[str, list[Period]] = {}
    forms: dict[str, str] = {}
    for record in records:
        match record:
            case Memory():
                forms[record.id] = record.form
                written.setdefault(record.id, [])
            case Stream(op="assign"):
                written.setdefault(record.memory, []).append(Period(record.every, unit))
            case Objective():
                for memory in record.memories:
                    written.setdefault(memory, []).append(record.every)
    return {m: Period(0) if forms.get(m) == "attention" else fastest(p) for m, p in written.items()}


def held(records: Iterable[Record]) -> dict[str, int]:
    """The memories that are read at the start of a chunk (`hold state`), and its length."""
    return {m: r.hold_length for r in records if isinstance(r, Objective) and r.hold == "state" for m in r.memories}


def with_clocks(body: Body, unit: str = "token") -> Body:
    """The body with the clock of every stream filled in, and that of the streams inside its objectives."""
    period = periods(body.records, unit)
    hold = held(body.records)
    always = Period(1, unit)
    clocks: dict[str, Period] = {p.id: always for p in body.inputs}
    records: list[Record] = []
    for record in body.records:
        if isinstance(record, Stream):
            clock = _clock(record, clocks, period, hold, unit)
            clocks[record.id] = clock
            records.append(record if record.clock == clock else changed(record, clock=clock))
        else:
            records.append(record)
    return replace(body, records=tuple(records))


def _clock(
    stream: Stream, clocks: Mapping[str, Period], period: Mapping[str, Period], hold: Mapping[str, int], unit: str
) -> Period:
    if stream.op in ("tick", "recall", "causal_conv"):
        return Period(1, unit)
    if stream.op.startswith("window_") or stream.op == "assign":
        return Period(stream.every, unit)
    if stream.op == "weight":
        if stream.memory in hold and stream.mode == "seen":
            return Period(hold[stream.memory], unit)
        own = period.get(stream.memory, NEVER)
        return own if own.count else Period(1, unit)
    return fastest(clocks[a] for a in stream.args if isinstance(a, str))


def shown(period: Any) -> str:
    return "never" if period == NEVER else str(period)
