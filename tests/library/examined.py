"""Every program of the library as `nldsl doctor` examines it: small, at its initial values."""

from __future__ import annotations

from typing import Any

from nldsl.compiler import compiled
from nldsl.compiler.doctor import examine
from nldsl.compiler.doctor.report import Report
from nldsl.compiler.doctor.subject import Subject

from nldsl.as_model import whole
from nldsl.diagnostics import Findings
from nldsl.program import function_of

SIZES: dict[str, Any] = {"dim": 16, "d": 16, "n": 16, "heads": 2, "depth": 1, "chunk": 8}
PERIODS: dict[str, Any] = {"periods": [16, 64], "period": 64, "fastest": 16, "slower": [64, 256], "shots": 10}
# The rates of rules, as a layer around each starts them; smaller where a key of [d] random numbers, which is no unit
# vector, makes a step d times longer.
RATES: dict[str, dict[str, float]] = {
    "std.atlas:DLARule": {"alpha": 0.999, "eta": 0.001},
    "std.atlas:OmegaRule": {"alpha": 0.999, "gamma": 0.0001},
    "std.atlas:AtlasRule": {"theta": 0.9, "alpha": 0.999, "eta": 0.001, "gamma": 0.5},
    "std.atlas:DotRule": {"gamma": 0.0001},
    "std.delta:DeltaRule": {"beta": 0.01},
    "std.delta:GatedDeltaRule": {"alpha": 0.99, "beta": 0.01},
    "std.delta:CombaRule": {"alpha": 0.99, "beta": 0.01, "b": 0.73, "c": 1},
    "std.lact:LaCTRule": {"lr0": 0.01, "lr1": 0.01, "lr2": 0.01, "beta": 0.5},
    "std.longhorn:LonghornRule": {"beta": 0.018},
    "std.mesa:MesaRule": {"g": 0.98, "beta": 0.03, "lam": 1},
    "std.miras:MonetaRule": {"alpha": 0.9999, "eta": 0.0003},
    "std.miras:YaadRule": {"alpha": 0.9999, "eta": 0.0025, "delta": 1.3},
    "std.miras:MemoraRule": {"alpha": 0.9999, "eta": 0.0025},
    "std.self_modifying:FixedProjectionsRule": {"alpha": 0.999, "eta": 0.001},
    "std.titans:TitansRule": {"eta": 0.9, "theta": 0.0001, "alpha": 0.001},
    "std.tnt:TNTRule": {"global_eta": 0.001, "local_eta": 0.001},
    "std.ttt:TTTLinearRule": {"rate": 0.01},
    "std.ttt:TTTMLPRule": {"rate": 0.01},
}


def hyper_of(program: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """Those of the sizes that a program has names for."""
    function = function_of(program, Findings())
    assert function is not None
    return {p.name: sizes[p.name] for p in function.definition.parameters if p.name in sizes}


def examined(program: str, tokens: int, seed: int = 0, **sizes: Any) -> Report:
    """The report on a program of the library."""
    result = whole(program, hyper_of(program, SIZES | PERIODS | sizes))
    assert result.graph is not None
    subject = Subject(compiled(result.graph, seed=seed))
    _, inputs = subject.inputs((), False, tokens, 2, seed, RATES.get(program, {}))
    return examine(subject.module, inputs, seed)


def wrong(report: Report) -> dict[str, str]:
    """What is said of each line of a report that is not fine."""
    named = {
        **{line.memory: line.verdict for line in report.memories},
        **{line.writer: line.verdict for line in report.writers},
        **{line.gate: line.verdict for line in report.gates},
        **{line.parameter: line.verdict for line in report.parameters},
        **{said: said for said in report.other},
    }
    return {name: verdict for name, verdict in named.items() if not verdict.startswith("fine")}
