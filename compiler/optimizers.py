"""Training steps: the learns of the step clock as a `torch.optim.Optimizer` (rules 7, 12 and 14)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import torch
from nldsl.compiler import rules
from nldsl.compiler.masks import LEAD
from nldsl.compiler.piece import Piece
from nldsl.compiler.rules import Place
from nldsl.compiler.runner import Runner
from nldsl.compiler.traced import Traced
from torch import Tensor
from torch.optim.optimizer import required

from nldsl.graph import Body, LevelGraph, Memory, Objective, Rule, Stream
from nldsl.parameters import learned_parameters


@dataclass(frozen=True)
class Served:
    """A parameter, and its learn's rules cut down to it. lead: how many of the leading axes [batch, time, heads] its
    tensor lacks."""

    place: Place
    optimizer: Rule
    retention: Rule | None
    lead: int


class StepLearner(torch.optim.Optimizer):
    """The learns of a program on the step clock: one parameter group for each, in the order of the text.

    `step()` adds every parameter's `.grad` to the window of its learn. A `.grad` of None counts as zero, so a rule with
    decay or momentum acts all the same; a parameter that requires no gradient is left alone. The last step of a window,
    `every` steps long, turns the window's mean into an update by the learn's optimizer, and the update into new weights
    by its retention.

    Of a group, `lr` is a factor on the update, 1 at first: the rates stand in the text, and what a scheduler makes of
    `lr` scales what they give. `learn` is the learn's name, `every` the length of its window in steps, `steps` how many
    it has seen. `state[p]` has the `sum` of the open window, and what `optimizer` and `retention` keep, by path.
    """

    def __init__(self, runner: Runner, parameters: Mapping[str, Tensor]) -> None:
        """parameters: the program's, by name. Raises ValueError if it has no learn on the step clock."""
        self.runner, self.traced = runner, Traced()
        learns = step_learns(runner.graph)
        self.served = {learn.id: served(runner.graph, learn) for learn in learns}
        self.normed = {learn.id for learn in learns if asks_norm(runner.graph, learn)}
        groups = []
        for learn in learns:
            names = [s.place.name for s in self.served[learn.id]]
            named = [(name, parameters[name]) for name in names]
            groups.append({"params": named, "learn": learn.id, "every": learn.every.count, "steps": 0})
        super().__init__(groups, {"lr": 1.0, "learn": required})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One training step. closure: computes the gradients first, and gives the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                self._learn(group)
        return loss

    def _learn(self, group: dict[str, Any]) -> None:
        """A learn's step: gather, and at the end of the window write. (No rule sees another parameter, so each may be
        written before the next one is read.)"""
        group["steps"] += 1
        last = group["steps"] % group["every"] == 0
        learning = [
            (p, s) for p, s in zip(group["params"], self.served[group["learn"]], strict=True) if p.requires_grad
        ]
        means = [gathered(self.state[p], p, group["every"], last) for p, _ in learning]
        if not last or not learning:
            return
        self.runner.moved(learning[0][0].device, self.runner.dtype)
        piece = self.runner.piece({}, {}, {}, 1, 1, 0)
        given = {"total_norm": total_norm(means)} if group["learn"] in self.normed else {}
        for (p, serve), mean in zip(learning, means, strict=True):
            if self.runner.watch is not None:
                self.runner.watch(serve.place.memory)
            write(piece, self.traced, serve, p, given | {"g": mean}, group["lr"], self.state[p])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from what `state_dict()` gave, be it in the middle of a window. Raises ValueError if that is of other
        learns."""
        learns = [group.get("learn") for group in state_dict["param_groups"]]
        if learns != list(self.served):
            raise ValueError(f"this state is of the learns {learns}, and these are {list(self.served)}")
        super().load_state_dict(state_dict)
        numbers = [n for group in state_dict["param_groups"] for n in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for number, p in zip(numbers, parameters, strict=True):
            if number in state_dict["state"]:
                self.state[p] = uncast(self.state[p], state_dict["state"][number])


# What the text says of a learn


def step_learns(graph: LevelGraph) -> list[Objective]:
    """The learns of the step clock that have a parameter to learn."""
    return [o for o in graph.objectives if o.every.unit == "step" and o.optimizer and o.optimizer.bodies]


def served(graph: LevelGraph, learn: Objective) -> list[Served]:
    assert learn.optimizer is not None and learn.retention is not None
    known = learned_parameters(graph)
    retaining = {(m, leaf): replace(learn.retention, bodies=((m, leaf, b),)) for m, leaf, b in learn.retention.bodies}
    found = []
    for memory, leaf, body in learn.optimizer.bodies:
        heads = known[f"{memory}.{leaf}"].heads
        optimizer = replace(learn.optimizer, bodies=((memory, leaf, body),))
        place = Place(memory, leaf, max(1, heads))
        found.append(Served(place, optimizer, retaining.get((memory, leaf)), LEAD - 1 if heads else LEAD))
    return found


def asks_norm(graph: LevelGraph, learn: Objective) -> bool:
    bodies = {b for rule in (learn.optimizer, learn.retention) if rule for _, _, b in rule.bodies}
    return any(p.id == "total_norm" for b in bodies for p in graph.bodies[b].inputs)


# One parameter


def gathered(state: dict[str, Any], p: Tensor, every: int, last: bool) -> Tensor:
    """Add a step's gradient to the open window. Gives the window's mean, if this is its last step."""
    grad = torch.zeros_like(p) if p.grad is None else p.grad
    if every == 1:
        return grad
    total = state["sum"] + grad if "sum" in state else grad.clone()
    if not last:
        state["sum"] = total
        return total
    state.pop("sum", None)
    return total / every


def total_norm(means: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients of a learn together, heads included, [1, 1, 1]."""
    return torch.stack([(g**2).sum() for g in means]).sum().sqrt().reshape(1, 1, 1)


def write(
    piece: Piece, traced: Traced, serve: Served, p: Tensor, given: dict[str, Tensor], lr: Any, state: dict[str, Any]
) -> None:
    """A parameter's new value, in place. given: `g`, perhaps `total_norm`. state: what its rules keep is renewed."""
    w = p.detach()[(None,) * serve.lead]
    given = given | {"g": given["g"][(None,) * serve.lead], "w": w}
    lent = {x.untyped_storage()._cdata for x in given.values()}

    def run(rule: Rule, name: str) -> Tensor:
        result, kept = run_rule(piece, traced, rule, serve.place, given, state.get(name, {}))
        if kept:
            state[name] = {n: owned(x, lent) for n, x in kept.items()}
        return owned(result, lent).expand(w.shape)

    update = run(serve.optimizer, "optimizer")
    if serve.retention is None:
        w.add_(update, alpha=float(lr))
    else:
        given |= {"u": update * lr, "start": w}
        w.copy_(run(serve.retention, "retention"))


def run_rule(
    piece: Piece, traced: Traced, rule: Rule, place: Place, given: dict[str, Tensor], kept: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """What a rule says, and what it keeps after. Once it has made its states it is a graph, unless it has memories that
    start in numbers of their own."""
    [(_, _, name)] = rule.bodies
    body = piece.machine.bodies[name]

    def run(given: dict[str, Tensor], kept: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        after = nested(kept)
        return rules.run_rule(piece, rule, place, given, {}, after, True, False), dict(flat(after))

    def again(tensors: list[Tensor]) -> list[Tensor]:
        roles = dict(zip(given, tensors, strict=False))
        result, after = run(roles, dict(zip(kept, tensors[len(roles) :], strict=True)))
        return [result, *(after[n] for n in kept)]

    if not is_plain(body) or not (kept or rules.keeps_nothing(body)):
        return run(given, kept)
    what = (name, *given, *(n.partition("/")[2] for n in kept))  # without the weight's name
    result, *values = traced(what, again, [*given.values(), *kept.values()])
    return result, dict(zip(kept, values, strict=True))


def is_plain(body: Body) -> bool:
    """Whether it has no memories but states, which start from the same number wherever they are."""
    memories = [r for r in body.records if not isinstance(r, Stream)]
    return all(isinstance(m, Memory) and m.form == "state" and m.start == "constant" for m in memories)


def owned(x: Tensor, lent: set[int]) -> Tensor:
    """x in memory of its own: a state or a result may be just the gradient or the weight, which will change."""
    return x.clone() if x.untyped_storage()._cdata in lent else x


def flat(kept: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Nested dictionaries of tensors as one, by path."""
    for name, value in kept.items():
        if isinstance(value, Tensor):
            yield path + name, value
        else:
            yield from flat(value, f"{path}{name}/")


def nested(kept: Mapping[str, Tensor]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for path, value in kept.items():
        *folders, name = path.split("/")
        inner = whole
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = value
    return whole


def uncast(loaded: Any, saved: Any) -> Any:
    """What torch has loaded, with its counters and marks as they were: torch makes them the parameter's type."""
    if isinstance(saved, Tensor):
        return loaded if saved.is_floating_point() else saved.to(loaded.device)
    if isinstance(saved, dict):
        return {n: uncast(loaded[n], v) for n, v in saved.items()}
    return loaded


def optimizers(runner: Runner, parameters: Mapping[str, Tensor]) -> list[torch.optim.Optimizer]:
    """One optimizer for all learns on the step clock, new and with nothing gathered; none if there is no such learn."""
    return [StepLearner(runner, parameters)] if step_learns(runner.graph) else []
