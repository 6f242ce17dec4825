"""The way out: which gate to turn, and in which direction, so that a memory keeps more or learns less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from nldsl.compiler.affine import Form, Key, NotAffine
from nldsl.compiler.doctor.writers import Writer, gate_of, gates
from nldsl.compiler.lowerings.applied import Updates, applied
from nldsl.compiler.lowerings.weight import Weight
from nldsl.compiler.runner import Runner
from torch import Tensor

from nldsl.graph import Rule

NUDGE = 1e-3  # of a rate, to see in which direction it works
MIDDLE = 0.5  # of a rate that was never seen


def keep_more(runner: Runner, memory: str, writers: Sequence[Writer], means: Mapping[str, float]) -> str:
    """What makes a memory forget less. means: of the gates, by their stream."""
    retentions = [w.learn.retention for w in writers if w.learn and w.learn.retention and w.learn.retention.bodies]
    effects: dict[str, float] = {}
    for rule in retentions:
        effects |= _effects(runner, memory, rule, means)
    scales = [g.text for g in gates(runner.graph) if memory in g.memories and "<-" in g.roles]
    if effects:
        text, effect = max(effects.items(), key=lambda pair: abs(pair[1]))
        return _turned(text, up=effect > 0)
    if scales:
        return _turned(scales[0], up=True)
    if retentions:
        return f"let `retaining {retentions[0].name}` keep more"
    if any(w.kind == "assign" for w in writers):
        return f"let `{memory.rpartition('.')[2]} <- …` keep more"
    return "let it learn slower, or towards larger values"


def learn_less(runner: Runner, writers: Sequence[Writer]) -> str:
    """What keeps a memory from growing: forgetting, or smaller steps."""
    forgets = any(w.kind == "assign" or (w.learn and w.learn.retention and w.learn.retention.bodies) for w in writers)
    steps = [_called(w.learn.optimizer, runner) for w in writers if w.learn and w.learn.optimizer]
    smaller = f"let `by {steps[0]}` take smaller steps" if steps else "let `<-` write less"
    return smaller if forgets else f"{smaller}, or let it forget by `retaining decay(0.99)`"


def _called(rule: Rule, runner: Runner) -> str:
    texts = [gate_of(a, runner.graph.streams, "", ()).text for a in rule.args]
    return f"{rule.name}({', '.join(texts)})" if texts else rule.name


def _turned(text: str, up: bool) -> str:
    if text.isidentifier():
        return f"{'raise' if up else 'lower'} the bias of {text}"
    return f"make `{text}` {'larger' if up else 'smaller'}"


def _effects(runner: Runner, memory: str, rule: Rule, means: Mapping[str, float]) -> dict[str, float]:
    """How the share that a retention keeps of the old weight moves with each stream it takes; those that move it."""
    known = {a: gate_of(a, runner.graph.streams, "", ()) for a in rule.args}
    at = {a: torch.full((1, 1, 1), means.get(gate.stream, MIDDLE), dtype=torch.float64) for a, gate in known.items()}
    found: dict[str, float] = {}
    try:
        before = _kept(runner, rule, memory, at)
        for name, gate in known.items():
            found[gate.text] = (_kept(runner, rule, memory, at | {name: at[name] + NUDGE}) - before) / NUDGE
    except NotAffine:
        return {}
    return {text: effect for text, effect in found.items() if abs(effect) > NUDGE}


def _kept(runner: Runner, rule: Rule, memory: str, streams: Mapping[str, Tensor]) -> float:
    """The coefficient of the old weight in the new one. Raises NotAffine where there is no such number."""
    body = runner.bodies[next(name for m, _, name in rule.bodies if m == memory)]
    shape = next(p.shape for p in body.inputs if p.id in ("w", "u"))
    weight = Weight(torch.zeros(1, 1, 1, *map(int, shape), dtype=torch.float64), 1)
    weight.key = torch.ones(1, 1, 1, int(shape[0]) if shape else 1, dtype=torch.float64)
    inputs: dict[str, Any] = {"w": weight.now["w"], "u": Form({0: 1.0}), "key": Key()}
    for port in body.inputs:
        if port.id.startswith("arg"):
            inputs[port.id] = streams[rule.args[int(port.id[3:])]]
        elif port.id not in inputs:
            raise NotAffine(f"it uses `{port.id}`")
    first = Updates(torch.zeros(1, 1, 1, dtype=torch.int64), 0)
    form = applied(weight, body, inputs, "retention", first, runner.facts(body).calls)
    return float(torch.as_tensor(form.terms.get("w", 0.0), dtype=torch.float64).mean())
