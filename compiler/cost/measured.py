"""What was counted, and sums of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nldsl.compiler.cost.work import Work


@dataclass
class Measured:
    """Of one run, for all sequences together and by record, "" for what belongs to none. works: FLOPs and bytes moved.
    alive: the bytes that were alive when most were. state: the bytes that are kept for what comes next."""

    works: dict[str, Work] = field(default_factory=dict)
    alive: dict[str, float] = field(default_factory=dict)
    state: dict[str, float] = field(default_factory=dict)

    @property
    def work(self) -> Work:
        total = Work()
        for work in self.works.values():
            total.add(work)
        return total

    @property
    def peak(self) -> float:
        return sum(self.alive.values())

    def per(self, name: str, count: int) -> tuple[float, float]:
        """(FLOPs, bytes) of one of so many."""
        work = self.works.get(name, Work())
        return work.flops / count, work.bytes / count

    def by(self, name: Callable[[str], str]) -> Measured:
        """Added up by other names."""
        found = Measured()
        for record, work in self.works.items():
            found.works.setdefault(name(record), Work()).add(work)
        for own, total in ((self.alive, found.alive), (self.state, found.state)):
            for record, size in own.items():
                total[name(record)] = total.get(name(record), 0) + size
        return found

    def add(self, other: Measured, times: float = 1) -> None:
        for record, work in other.works.items():
            self.works.setdefault(record, Work()).add(work, times)
        for own, more in ((self.alive, other.alive), (self.state, other.state)):
            for record, size in more.items():
                own[record] = own.get(record, 0) + times * size
