"""What is wrong with a line, in a few words and with the way out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from nldsl.compiler.doctor.report import FINE, SUM, GateLine, MemoryLine
from nldsl.compiler.doctor.writers import Writer

SMALLEST, LARGEST = 0.1, 10  # of the start; a memory within them is fine
SUMMING = 1.5  # power of the tokens read: a sum grows by one between 1/2 and 1, a sum of sums by 2
SHORTEST = 2.0  # tokens until half is gone; a memory must keep more than the token it reads


def of_memory(line: MemoryLine, keep_more: str, learn_less: str, restarts: bool) -> str:
    """keep_more, learn_less: the ways out. restarts: what restarts forgets all, and is meant to."""
    if line.fresh and line.horizon is None and summing(line.sizes):
        return SUM if max(line.sizes.values()) > LARGEST else FINE
    for tokens, size in line.sizes.items():
        after = f"after {tokens:,} token{'s' * (tokens != 1)}"
        if not line.fresh and size < SMALLEST:
            return f"erases itself: {size:.2g} of its start {after}; {keep_more}"
        if size > LARGEST:
            what = "times a fresh matrix" if line.fresh else "times its start"
            return f"grows: {size:,.3g} {what} {after}; {learn_less}"
    if not restarts and line.horizon is not None and line.horizon < SHORTEST:
        return f"forgets: half is gone after {line.horizon:.2g} tokens; {keep_more}"
    return FINE


def summing(sizes: Mapping[int, float]) -> bool:
    """Whether a memory grows as a sum does that forgets nothing: as the text does (linear attention), which may say
    less in its first few tokens than later."""
    looks = sorted(sizes.items())
    return len(looks) > 1 and all(b <= a * (n / m) ** SUMMING for (m, a), (n, b) in pairwise(looks))


def of_writer(writer: Writer, share: float, tokens: int) -> str:
    """Why a learn, or `<-`, never wrote; else fine."""
    if share:
        return FINE
    never = f"never written in {tokens:,} tokens"
    if writer.every > tokens or (writer.kind == "loss" and writer.every == tokens):
        return f"{never}: period {writer.every:,}; a shorter one, or more --tokens"
    if writer.when:
        return f"{never}: its `when` holds in no whole window; ease the condition"
    return f"{never}: it restarts before a window of {writer.every:,} is full; a shorter period"


def of_gate(line: GateLine) -> str:
    if math.isnan(line.mean):
        return FINE
    if not all(map(math.isfinite, (line.mean, line.least, line.most))):
        return "not finite"
    if line.least == line.most == 0:
        return "always 0: give it a bias"
    return FINE


def dead(steps: int, length: int) -> str:
    return f"dead parameter: no gradient in {steps} steps of {length:,} tokens; use it, or take it out"


def not_finite(token: int) -> str:
    return f"not finite from token {token:,} on; smaller rates may help"
