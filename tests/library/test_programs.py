"""Every program of the examples and the library parses, checks, runs, carries its state and trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nldsl.compiler.reference import Interpreter

import nldsl
from nldsl.graph import LevelGraph
from nldsl.modules import library
from nldsl.program import front_end

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = {"dim": 8, "depth": 2, "heads": 2}
PROGRAMS: dict[str, dict[str, Any]] = {
    "examples/hope.nl": SMALL | {"vocab": 11, "periods": [2, 4]},
    "examples/optimizers.nl": {"vocab": 11},
    "examples/definitions.nl": {"vocab": 11},
    "examples/attention.nl": {"vocab": 11},
    "examples/two_levels.nl": {"vocab": 11},
    "std.hope:Hope": SMALL | {"vocab": 11, "periods": [2, 4]},
    "std.hope:HopeAttention": SMALL | {"vocab": 11, "periods": [2, 4]},
    "std.transformer:Transformer": SMALL | {"vocab": 11},
    "std.linear_attention:LinearTransformer": SMALL | {"vocab": 11},
    "std.delta:DeltaTransformer": SMALL | {"vocab": 11},
    "std.delta:GatedDeltaTransformer": SMALL | {"vocab": 11},
    "std.ttt:TTT": SMALL | {"vocab": 11},
    "std.ttt:DeepTTT": SMALL | {"vocab": 11},
    "std.titans:Titans": SMALL | {"vocab": 11},
    "std.maml:MAMLRegression": {"shots": 2, "hidden": 8, "outer_lr": 0.1},
}


def path_of(program: str) -> str:
    return str(EXAMPLES.parent / program) if program.startswith("examples/") else program


def test_every_model_is_in_the_list() -> None:
    texts = [*EXAMPLES.glob("*.nl"), *library().glob("*.nl")]
    models = {f"{t.stem}:{d}" for t in texts for d, kind in definitions(t) if kind == "model"}
    listed = set()
    for program in PROGRAMS:
        graph = nldsl.load(path_of(program))
        listed.add(f"{Path(program.split(':')[0].removeprefix('std.')).stem}:{graph.program}")
    assert models == listed


def definitions(path: Path) -> list[tuple[str, str]]:
    from nldsl.syntax.parse import parse

    module, problems = parse(path.read_text(encoding="utf-8"), str(path))
    assert not problems
    return [(d.name.id, d.kind) for d in module.definitions]


def inputs(graph: LevelGraph) -> dict[str, torch.Tensor]:
    """Two sequences of 7 ticks for each port: tokens of a small vocabulary, or random numbers."""
    random = torch.Generator().manual_seed(0)
    return {
        port.id: torch.randint(0, 11, (2, 7), generator=random)
        if port.dtype == "int"
        else torch.randn(2, 7, *map(int, port.shape), generator=random, dtype=torch.float64)
        for port in graph.tick.inputs
    }


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_checks_runs_and_trains(program: str) -> None:
    """No finding but notes; a run in two pieces is the run in one; two steps on one batch lower its loss."""
    result = front_end(path_of(program), PROGRAMS[program])
    assert [d for d in result.findings.items if d.severity != "note"] == []
    assert result.graph is not None
    machine = Interpreter(result.graph)
    given = inputs(result.graph)
    with torch.no_grad():
        (whole,), _ = machine.run(given)
        (first,), state = machine.run({name: x[:, :3] for name, x in given.items()})
        (second,), _ = machine.run({name: x[:, 3:] for name, x in given.items()}, state)
    assert torch.allclose(torch.cat([first, second], 1), whole, rtol=1e-12, atol=1e-12)
    assert whole.shape[:2] == (2, 7)
    assert whole.isfinite().all()
    before = {name: p.detach().clone() for name, p in machine.parameters.items()}
    losses = [float(machine.step(given)[0]) for _ in range(2)]
    assert all(torch.tensor(losses).isfinite())
    assert any(not torch.equal(before[n], p) for n, p in machine.parameters.items())


def test_hope_fits_on_a_page() -> None:
    text = (library() / "hope.nl").read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if line.strip()]) <= 80
    for _, kind in definitions(library() / "hope.nl"):
        assert kind in ("block", "model")
