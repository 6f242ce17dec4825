"""Compiled programs say what the reference interpreter says, in float64 and to ten places: outputs, losses, states and
gradients, all ticks at once, token by token, cut anywhere, and with gaps in a batch's texts.

Where rounding decides, a program has an excuse (see `ill_posed`); few may have one.
"""

from __future__ import annotations

import ast
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, seed
from hypothesis import strategies as st
from laws.programs import Program, laws, noticed, seeded, using, valid_programs
from laws.test_splits import without
from nldsl.compiler import closing, learning, memories, plan, ragged, weighing
from nldsl.compiler.losses import Loss
from nldsl.compiler.runner import Runner
from torch import Tensor

import nldsl
from compiler.agreement import by_aot, by_graphs, by_inductor, by_recurrence, wrong
from compiler.comparisons import TEXTS, Compared, at_once, checked_text, in_pieces, of_text, padded
from compiler.excuses import Tally, naming

KEPT = 0.85
Law = Callable[[Program], None]


def law(number: int, examples: int, *strategies: Any, compare: Callable[..., Compared]) -> None:
    """So many random programs agree, or nearly all; the others have an excuse. number: chooses the programs."""
    tally = Tally()

    @seed(number)
    @laws(examples)
    @given(valid_programs(), st.tuples(*strategies))
    def agrees(program: Program, drawn: tuple[Any, ...]) -> None:
        with naming(program):
            tally.judge(compare(program, *drawn))

    agrees()
    assert tally.share >= KEPT, tally


# All ticks at once, token by token, compiled once more


def test_programs_agree() -> None:
    law(0, 70, st.integers(1, 11), compare=at_once)


def test_programs_agree_token_by_token() -> None:
    law(1, 25, st.integers(1, 9), compare=functools.partial(at_once, build=by_recurrence))


def test_programs_agree_from_graphs_alone() -> None:
    law(5, 15, st.integers(1, 9), compare=functools.partial(at_once, build=by_graphs))


def test_programs_agree_under_torch_compile() -> None:
    """Each takes some seconds; `benchmarks/agree.py --way torch.compile` tries more."""
    law(2, 20, st.integers(1, 5), compare=functools.partial(at_once, build=by_aot))


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.parametrize(
    ("name", "options", "ticks"), [("std.titans:LMM", {"chunk": 4}, 16), ("std.delta:GatedDeltaNet", {}, 256)]
)
def test_programs_agree_as_machine_code(name: str, options: dict[str, Any], ticks: int) -> None:
    """Several chunks of one body. `benchmarks/agree.py` tries the whole library."""
    torch._dynamo.reset()
    assert not wrong(of_text(nldsl.load(name, dim=8, heads=2, **options), ticks, by_inductor))


# Cut anywhere, with gaps


def everywhere(program: Program, ticks: int, cuts: set[int]) -> Compared:
    """Cut once at every place, at all of them, and at some."""
    singly = [[at] for at in range(1, ticks)]
    return in_pieces(program, ticks, [*singly, range(1, ticks), sorted(c for c in cuts if c < ticks)])


def test_a_run_in_pieces_is_the_run_of_the_reference() -> None:
    law(3, 40, st.integers(2, 9), st.sets(st.integers(1, 8), min_size=2, max_size=4), compare=everywhere)


def test_copies_that_have_not_counted_yet_begin_in_a_later_call() -> None:
    """A random program with `when` and a memory inside an optimizer, whose start has its gradient in that call."""
    assert not wrong(in_pieces(seeded(504), 9, [range(1, 9)]).found)


@st.composite
def gaps(draw: st.DrawFn) -> list[Tensor]:
    """Masks for two calls, padded on the left, on the right or with holes; each call has some token."""
    masks = []
    for _ in range(2):
        ticks = draw(st.integers(1, 6))
        rows = [draw(st.sampled_from((left, right, holes)))(draw, ticks) for _ in range(2)]
        if not any(any(row) for row in rows):
            rows[0] = [True] * ticks
        masks.append(torch.tensor(rows))
    return masks


def left(draw: st.DrawFn, ticks: int) -> list[bool]:
    none = draw(st.integers(0, ticks))
    return [t >= none for t in range(ticks)]


def right(draw: st.DrawFn, ticks: int) -> list[bool]:
    return left(draw, ticks)[::-1]


def holes(draw: st.DrawFn, ticks: int) -> list[bool]:
    return draw(st.lists(st.booleans(), min_size=ticks, max_size=ticks))


def test_a_padded_text_is_the_text() -> None:
    law(4, 40, gaps(), compare=padded)


# The library and the examples


@pytest.mark.parametrize("name", TEXTS, ids=["/".join(Path(name).parts[-2:]) for name in TEXTS])
def test_the_library_agrees(name: str) -> None:
    graph = checked_text(name)
    if graph is None:
        pytest.skip("it learns from the loss of its model, and is compared there")
    assert not wrong(of_text(graph, 9))


# Broken compilers: every kind of difference is noticed


def differs_not(compared: Compared) -> None:
    assert not wrong(compared.found)


def law_of_agreement(program: Program) -> None:
    differs_not(at_once(program, 8))


def law_of_pieces(program: Program) -> None:
    differs_not(in_pieces(program, 8, [[3], [5]]))


def law_of_gaps(program: Program) -> None:
    differs_not(padded(program, [torch.tensor([[False, True, True, True, False, True], [True] * 6])]))


# What lasts from call to call, as it is named in a state -> the programs that have it.
CARRIED = {
    "past": ("conv",),
    "weights": ("every token",),
    "sum": ("every N tokens",),
    "total": ("window_sum",),
    "rules": ("optimizer state",),
    "anchor": ("hold state",),
    "buffer": ("over",),
    "values": ("attention",),
    "segments": ("loss on tokens",),
    "waiting": ("next",),
}


@pytest.mark.parametrize("part", CARRIED)
def test_a_lost_carry_is_noticed(part: str) -> None:
    def losing(self: Runner, inputs: Any, state: Any, *args: Any) -> Any:
        return run(self, inputs, without(state, part), *args)

    run = Runner.run
    with patch.object(Runner, "run", losing):
        assert noticed(law_of_pieces, using(*CARRIED[part], most=30))


def broken(place: Any, name: str, mutant: Callable[..., Any]) -> Any:
    """A function of the compiler in the hands of a mutant, which gets it as its first argument."""
    sound = getattr(place, name)

    def instead(*args: Any, **named: Any) -> Any:
        return mutant(sound, *args, **named)

    return patch.object(place, name, instead)


def cut_off(apply: Any, piece: Any, record: Any, sums: Any, *args: Any) -> None:
    """Writes that no gradient flows through."""
    apply(piece, record, {n: g.detach() for n, g in sums.items()}, *args)


def not_quite(apply: Any, piece: Any, record: Any, sums: Any, *args: Any) -> None:
    """Writes that are wrong in the ninth place."""
    apply(piece, record, {n: g * (1 + 1e-8) for n, g in sums.items()}, *args)


def held_once(take: Any, piece: Any, memory: Any, learn: Any, where: Any) -> None:
    """A hold that is never taken again."""
    if f"{memory.id}.{memory.leaves[0].name}" not in piece.frame.get(learn.id, {}).get("anchor", {}):
        take(piece, memory, learn, where)


def read_early(nodes_of: Any, body: Any) -> Any:
    """Reads that come before all writes of their tick."""
    nodes = nodes_of(body)
    return tuple(n for n in nodes if n[1] != "write") + tuple(n for n in nodes if n[1] == "write")


def always(active: Any, *args: Any) -> bool:
    """Ticks that count whatever their condition says."""
    return True


def opened_once(restarts: Any, piece: Any, memory: Any) -> bool:
    """Memories that never restart."""
    return memory.id not in piece.frame


def unwritten(close: Any, runner: Any, frame: Any, *args: Any) -> Any:
    """Segments whose loss teaches nothing."""
    return frame


def unmasked(read: Any, runner: Any, inputs: Any, state: Any, mask: Tensor, *args: Any) -> Any:
    """Padding that is read like any token."""
    return read(runner, inputs, state, torch.ones_like(mask), *args)


def misjudged(of: Any, self: Any, *args: Any) -> Tensor:
    """Losses that are wrong in the ninth place."""
    return of(self, *args) * (1 + 1e-8)  # type: ignore[no-any-return]


MUTANTS: dict[Callable[..., Any], tuple[Any, str, Law, tuple[str, ...]]] = {
    cut_off: (learning, "apply", law_of_agreement, ("optimizer state",)),
    not_quite: (learning, "apply", law_of_agreement, ("optimizer state",)),
    held_once: (memories, "_take_hold", law_of_agreement, ("hold state",)),
    read_early: (plan, "nodes_of", law_of_agreement, ("every token", "read below")),
    always: (weighing, "active", law_of_agreement, ("when",)),
    opened_once: (memories, "_restarts", law_of_agreement, ("reset every",)),
    unwritten: (closing, "close", law_of_agreement, ("loss on tokens",)),
    unmasked: (ragged, "read", law_of_gaps, ("every token",)),
    misjudged: (Loss, "_of", law_of_agreement, ("next",)),
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=[m.__name__ for m in MUTANTS])
def test_a_mutant_is_noticed(mutant: Callable[..., Any]) -> None:
    place, name, law, clauses = MUTANTS[mutant]
    with broken(place, name, mutant):
        assert noticed(law, using(*clauses, most=30))


# The two stand on their own

COMPILER = Path(plan.__file__).parent
SHARED = {"nldsl.compiler.starts"}  # the parameters they both draw


def imports(path: Path) -> set[str]:
    """The modules of the compiler that a file imports, by full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports by a relative name"
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("nldsl.compiler.")}


def test_the_compiler_and_the_interpreter_share_nothing_but_the_draws() -> None:
    """An error in what both use would be an error that no comparison sees."""
    reference = COMPILER / "reference"
    files = [p for p in COMPILER.rglob("*.py") if p.name != "__init__.py" or p.parent != COMPILER]
    assert len(files) > 20
    for path in files:
        inside = path.is_relative_to(reference)
        for name in imports(path):
            own = f"{name}.".startswith("nldsl.compiler.reference.")
            known = any(f"{name}.".startswith(f"{shared}.") for shared in SHARED)
            assert own == inside or known, f"{path.relative_to(COMPILER)} imports {name}"
