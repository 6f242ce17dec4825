"""A chunk's writes in closed form, where every update is affine in the running weight with one number per tick.

With W[t] = a[t] W[t-1] + e[t] k[t] k[t]^T W[t-1] + c[t] k[t] d[t]^T, which is W[t] = a[t] W[t-1] + k[t] r[t]^T for

    r[t] = e[t] W[t-1]^T k[t] + c[t] d[t],

the r of a chunk solve one triangular system (the UT form of the delta rule), and the last weight is
W[C] = D[C, 0] W[0] + sum_s D[C, s] k[s] r[s]^T, where D[t, s] is the product of a[s+1] ... a[t].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import affine, buffers, rules
from nldsl.compiler.affine import Form, Key, NotAffine
from torch import Tensor

from nldsl.graph import Objective

if TYPE_CHECKING:
    from nldsl.compiler.distribute import Loop
    from nldsl.compiler.piece import Piece


def why_not(loop: Loop, machine: Any) -> str:
    """Why a loop's writes have no closed form, "" if they have."""
    if loop.length != 1 or len(loop.nodes) != 1:
        return "something reads the running weight inside a chunk"
    record, part = loop.nodes[0]
    if not isinstance(record, Objective) or part != "write":
        return "it is written by `<-`"
    if record.every.count != 1 or record.when or buffers.needed(record):
        return "it does not write every token"
    assert record.optimizer is not None and record.retention is not None
    if any(rules.asks(machine, r, "total_norm") for r in (record.optimizer, record.retention)):
        return "its rule looks at the norm of all gradients"
    try:
        for memory, leaf, _ in record.optimizer.bodies:
            one = affine.unit()
            streams = dict.fromkeys({*record.optimizer.args, *record.retention.args}, one)
            step(machine, record, memory, leaf, streams, None)
    except NotAffine as reason:
        return f"an update is not affine in the weight: {reason}"
    return ""


def step(
    machine: Any, record: Objective, memory: str, leaf: str, streams: dict[str, Tensor], key: Tensor | None
) -> Form:
    """One update as a form: optimizer, then retention."""
    assert record.optimizer is not None and record.retention is not None
    given: dict[str, Any] = {"w": Form({"w": 1.0}), "g": Form({"g": 1.0}), "key": Key()}
    update = _applied(machine, record.optimizer, memory, leaf, given, streams, key)
    if not any((m, n) == (memory, leaf) for m, n, _ in record.retention.bodies):
        return affine.added(given["w"], update)
    return _applied(machine, record.retention, memory, leaf, given | {"u": update}, streams, key)


def _applied(
    machine: Any, rule: Any, memory: str, leaf: str, given: dict[str, Any], streams: dict[str, Tensor], key: Any
) -> Form:
    name = next(b for m, n, b in rule.bodies if (m, n) == (memory, leaf))
    body = machine.bodies[name]
    inputs = {}
    for port in body.inputs:
        source = rule.args[int(port.id[3:])] if port.id.startswith("arg") else port.stream
        if source and port.shape and tuple(map(int, port.shape)) != (1,):
            raise NotAffine("a rate is a vector")
        if not source and port.id not in given:
            raise NotAffine(f"it uses `{port.id}`")
        inputs[port.id] = streams[source] if source else given[port.id]
    if key is None and any(p.id == "key" for p in body.inputs):
        width = next(int(p.shape[0]) for p in body.inputs if p.id == "key")
        key = torch.ones(1, 1, 1, width)
    return affine.form_of(body, inputs, key, machine.facts(body).calls)


def run(piece: Piece, loop: Loop) -> bool:
    """All writes of a chunk at once; what is left is the weight after its last tick. False where it can't be: the
    gradients of a matrix that erases must be there as factors."""
    record = loop.nodes[0][0]
    assert isinstance(record, Objective) and record.optimizer is not None
    found = piece.values[f"gradient {record.id}"]
    if piece.ticks == 1 or (found["whole"].keys() & found["keys"].keys()):
        return False
    names = {n for rule in (record.optimizer, record.retention) if rule for n in rule.args}
    streams = {n: _per_tick(piece.values[n]) for n in names}
    news: dict[str, dict[str, Tensor]] = {}
    for memory, leaf, _ in record.optimizer.bodies:
        name = f"{memory}.{leaf}"
        form = step(piece.machine, record, memory, leaf, streams, found["keys"].get(name))
        old = piece.frame[memory]["weights"][leaf]
        lead = (piece.batch, piece.ticks, old.shape[2])
        coefficients = {n: _tensor(c, old, lead) for n, c in form.terms.items()}
        if name in found["d"]:
            new = closed(old, coefficients, found["x"][name], found["d"][name])
        else:
            new = summed(old, coefficients, found["whole"][name])
        news.setdefault(memory, {})[leaf] = new
    for memory, weights in news.items():
        held = piece.frame[memory]
        piece.frame[memory] = held | {"weights": held["weights"] | weights}
    return True


def _per_tick(x: Tensor) -> Tensor:
    return x.reshape(x.shape[:3])


def _tensor(value: Any, like: Tensor, lead: tuple[int, int, int]) -> Tensor:
    """A coefficient [batch, heads, ticks]."""
    if not isinstance(value, Tensor):
        value = torch.full((1, 1, 1), float(value), dtype=like.dtype, device=like.device)
    made: Tensor = value
    return made.to(like.dtype).expand(lead).transpose(1, 2)


def decays(a: Tensor) -> Tensor:
    """D[t, s], the product of a[s+1] ... a[t], for s = 0 (before the first tick) ... t; 0 above. [..., C+1, C+1]."""
    count = a.shape[-1]
    rows = torch.nn.functional.pad(a, (1, 0), value=1.0)[..., None].expand(*a.shape[:-1], count + 1, count + 1)
    later = torch.ones(count + 1, count + 1, dtype=torch.bool, device=a.device).tril(-1)
    return torch.where(later, rows, torch.ones_like(rows)).cumprod(-2).tril()


def closed(old: Tensor, coefficients: dict[str, Tensor], x: Tensor, d: Tensor) -> Tensor:
    """The last weight. x: [B, C, H, n], d: [B, C, H, m], old: [B, 1, H, n, m]."""
    weight, keys = old.squeeze(1), x.transpose(1, 2)  # [B, H, n, m], [B, H, C, n]
    a, c = coefficients["w"], coefficients["g"]
    ratio = decays(a)
    r = c[..., None] * d.transpose(1, 2)
    if "erased" in coefficients:
        e = coefficients["erased"][..., None]
        r = r + e * ratio[..., :-1, :1] * (keys @ weight)
        inner = e * ratio[..., :-1, 1:] * (keys @ keys.mT)
        r = solved(inner.tril(-1), r)
    last = ratio[..., -1, :, None]
    kept, written = last[..., :1, :] * weight, (last[..., 1:, :] * keys).mT
    new = torch.baddbmm(kept.flatten(0, 1), written.flatten(0, 1), r.flatten(0, 1))  # one pass over the weight less
    return new.reshape(kept.shape).unsqueeze(1)


def solved(strict: Tensor, right: Tensor) -> Tensor:
    """(I - strict)^-1 right, for a strictly lower triangular matrix. Solved transposed: LAPACK stores columns, and so
    the result, and its gradient, lie in memory row by row like everything else."""
    eye = torch.eye(strict.shape[-1], dtype=strict.dtype, device=strict.device)
    system = (eye - strict).mT
    found: Tensor = torch.linalg.solve_triangular(system, right.mT, upper=True, left=False, unitriangular=True).mT
    return found


def summed(old: Tensor, coefficients: dict[str, Tensor], gradients: Tensor) -> Tensor:
    """The last weight where nothing is erased, each tick's gradient [B, C, H, *shape] as a whole."""
    last = decays(coefficients["w"])[..., -1, :]
    rates = (last[..., 1:] * coefficients["g"]).transpose(1, 2)  # [B, C, H]
    rest = (1,) * (old.dim() - 3)
    total = (rates.reshape(*rates.shape, *rest) * gradients).sum(1, keepdim=True)
    return last[..., :1].transpose(1, 2).reshape(old.shape[0], 1, -1, *rest) * old + total
