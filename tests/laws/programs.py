"""Random valid programs: the text of a model or a block with small sizes, and what of the language it uses.

Everything is chosen by one function `choose(n) -> 0 .. n - 1`, so that Hypothesis can shrink a program (0 is the
plainest choice) and a plain seed can draw one. Combinations that the language forbids are never built: token streams
reach slower clocks through windows, holds are multiples of their period, keys are asked for where there is one.
Whatever has parameters of its own is read by something that reaches the outputs, so that nothing is left untrained.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from nldsl.compiler.reference import Interpreter

from nldsl.graph import LevelGraph
from nldsl.program import Result, front_end

T = TypeVar("T")
VOCAB = 5
Inputs = dict[str, torch.Tensor]
Runner = Callable[[LevelGraph], Interpreter]

# What the laws' run must have seen, by rule. A program counts a clause once for each time it writes it.
CLAUSES: dict[int, tuple[str, ...]] = {
    2: ("read above", "read below", "write above", "write below", "write every N"),
    3: ("window_sum", "window_mean", "window_last", "window in a write"),
    4: ("next", "loss without next"),
    5: ("cycle through a previous state",),
    6: (
        "key -> value", "expression of self", "joint objective", "data", "stop", "target from self", "several memories",
        "several learns", "weighted", "weighted list",
    ),
    7: (
        "optimizer state", "optimizer over w", "optimizer over key", "retention over key", "retention over start",
        "optimizer state reset", "retention state reset", "key of a bias", "rank", "shape", "width", "total_norm",
        "tick", "orthogonal", "memory in an optimizer",
    ),
    8: ("rate []", "rate [1]", "rate [heads]", "rate [heads, 1]", "rate [n]", "rate [n, 1]", "rate of an objective",
        "rate of a retention"),
    9: ("every token", "every N tokens"),
    10: ("hold gradient", "hold state"),
    11: ("over", "over weighted []", "over weighted [c]", "times", "when", "when per head"),
    12: ("loss on tokens", "loss on two periods", "through", "loss and when"),
    13: ("detached", "through on steps"),
    14: ("learn *", "named learn", "every 2 steps", "learn * on tokens"),
    15: ("matrix", "mlp", "residual_mlp", "composed", "heads", "bare name", "used twice", "never learns", "in place"),
    16: ("from zeros", "from Other", "from f(start)", "reset every", "reset when", "state", "state heads",
         "state shape", "state reset"),
    17: ("attention", "attention window", "attention persistent", "attention above", "attention below"),
    18: ("level", "at"),
    19: ("repeat", "for", "if", "block in a model", "conv"),
}  # fmt: skip

DEFINITIONS = {
    "scaled": """
net scaled(d) over x: [d] -> [d] {
  param w: [d, d] = normal(d ^ -0.5)
  param gain: [d] = ones
  return gain * (x @ w)
}""",
    "restarting": """
optimizer restarting(lr) over g {
  state s = 0 reset every 3 updates
  s <- 0.5 * s - lr * g
  return s
}""",
    "clipped": """
optimizer clipped(lr) over g = -lr * g / maximum(1, total_norm(g))""",
    "by_shape": """
optimizer by_shape(lr) over g {
  u = g / width(g)
  if rank(g) == 2 {
    u = g / shape(g, 0)
  }
  return -lr * u
}""",
    "pulled": """
optimizer pulled(lr) over g, w = -lr * (g + 0.1 * w)""",
    "slowly": """
optimizer slowly(lr) over g = -lr * g / (1 + tick)""",
    "smoothed": """
retention smoothed(keep) over w, u {
  state m = 0 reset every 2 updates
  m <- 0.5 * m + u
  return keep * w + m
}""",
}


@dataclass(frozen=True)
class Program:
    """A text and what is known about it. ports: name -> shape, None for ids. ahead: whether its loss looks ahead."""

    text: str
    ports: tuple[tuple[str, tuple[int, ...] | None], ...]
    model: bool
    ahead: bool
    steps: bool
    clauses: Counter[str] = field(compare=False)

    def __repr__(self) -> str:
        return self.text

    def graph(self) -> LevelGraph:
        result = checked(self.text)
        assert result.graph is not None and not result.findings.errors, (result.findings.errors, self.text)
        return result.graph

    def inputs(self, ticks: int, batch: int = 2, seed: int = 0) -> Inputs:
        """Random streams [batch, ticks, …] for every port."""
        generator = torch.Generator().manual_seed(seed)
        given: Inputs = {}
        for name, shape in self.ports:
            if shape is None:
                given[name] = torch.randint(VOCAB, (batch, ticks), generator=generator)
            else:
                given[name] = torch.randn((batch, ticks, *shape), generator=generator, dtype=torch.float64)
        return given


@functools.lru_cache(maxsize=256)
def checked(text: str) -> Result:
    return front_end("generated.nl", text=text)


def machine(graph: LevelGraph, runner: Runner = Interpreter) -> Interpreter:
    """A graph in the interpreter, or in a mutant of it, with nothing left at zero."""
    made = runner(graph)
    generator = torch.Generator().manual_seed(7)
    for value in made.parameters.values():
        value.data += 0.3 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
    return made


def cut(inputs: Inputs, begin: int, end: int) -> Inputs:
    return {name: x[:, begin:end] for name, x in inputs.items()}


def changed(inputs: Inputs, begin: int = 0, row: int | None = None) -> Inputs:
    """Other inputs from tick `begin` on, in one row or in all."""
    made = {}
    for name, x in inputs.items():
        rows = slice(None) if row is None else slice(row, row + 1)
        made[name] = x.clone()
        made[name][rows, begin:] = (x[rows, begin:] + 1) % VOCAB if x.dtype == torch.int64 else 0.5 - x[rows, begin:]
    return made


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, relative to numbers beyond one."""
    assert a.shape == b.shape
    return float(((a - b).abs() / b.abs().clamp(min=1)).max()) if a.numel() else 0.0


def laws(examples: int, shrink: bool = False) -> settings:
    """The same programs in every run. What fails is shrunk where that takes seconds, not minutes."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
    )


def noticed(law: Callable[[Program], None], cases: Iterator[Program], times: int = 3) -> bool:
    """Whether a law fails on at least so many of these programs."""
    for program in cases:
        try:
            law(program)
        except AssertionError:
            times -= 1
            if not times:
                return True
    return False


@dataclass
class Memory:
    """A memory of the text. keyed: every leaf is a matrix used once in a read, so that rules may ask for its key."""

    name: str
    net: str
    keyed: bool
    zero: bool
    reset: str = ""
    learns: int = 0

    @property
    def square(self) -> bool:
        return self.net == "matrix(d)"


class Writer:
    """Writes one program, line by line."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self.choose = choose
        self.clauses: Counter[str] = Counter()
        self.definitions: dict[str, str] = {}
        self.lines: list[str] = []
        self.names = 0
        self.periods: set[int] = set()  # of the learns from the loss
        self.model = self.chance(60)

    # Choosing

    def pick(self, options: Sequence[T]) -> T:
        return options[self.choose(len(options))]

    def chance(self, percent: int) -> bool:
        """True about so often; few choices, so that different choices are different programs."""
        if percent > 50:
            return self.choose(round(100 / (100 - percent))) != 0
        sides = round(100 / percent)
        return self.choose(sides) == sides - 1

    def note(self, *clauses: str) -> None:
        self.clauses.update(clauses)

    def name(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    def bind(self, stem: str, value: str) -> str:
        name = self.name(stem)
        self.line(f"{name} = {value}")
        return name

    def use(self, name: str) -> str:
        """A definition of this module, written out once."""
        self.definitions.setdefault(name, DEFINITIONS[name])
        return name

    # Bodies

    def body(self, second: str = "") -> str:
        """Streams, memories and learns over `x: [dim]`; gives the name of a stream [dim] that they all reach."""
        if self.heads:
            self.line("d = dim / heads")
        else:
            self.line("d = dim")
        self.q, self.k, self.v = self.projections(second)
        self.pool = [self.q, self.k, self.v]
        self.reached = list(self.pool)
        own = f"sum({self.k}) > 0"
        self.conditions = [own, own, own, "sum(x) > 0.5", "tick % 3 != 1"]
        self.levels: dict[str, int] = {}
        units = [self.declare() for _ in range(1 + self.choose(3))]
        weights = [m for m in units if isinstance(m, Memory)]
        if len(weights) > 1 and self.chance(40):
            for memory in weights:
                if memory.net != "linear_bias(d)" or self.chance(50):
                    self.read(memory, "read above")
            self.note("cycle through a previous state")
        self.plain()
        while units:
            unit = units.pop(0)
            if isinstance(unit, Memory):
                mates = [m for m in units if isinstance(m, Memory)]
                if mates and self.chance(55):
                    units.remove(mates[0])
                    self.group([unit, mates[0]])
                else:
                    self.group([unit])
            else:
                unit()
        if self.chance(15):
            self.series()
        if self.chance(20):
            self.branch()
        total = " + ".join(dict.fromkeys(self.reached))
        return self.bind("y", f"({total}) |> merge" if self.heads else total)

    def projections(self, second: str) -> tuple[str, str, str]:
        made = []
        for stem in ("q", "k", "v"):
            value = second if second and stem == "v" else "x"
            if self.chance(80):
                value += " |> linear(dim)"
                self.note("in place")
            if self.chance(25):
                value += " |> conv(2)"
                self.note("conv")
            if self.heads:
                value += " |> split(heads)"
            value = f"{value} |> unit" if self.chance(70) else f"0.5 * ({value})"
            made.append(self.bind(stem, value))
        return made[0], made[1], made[2]

    def of_heads(self) -> str:
        if self.heads:
            self.note("heads")
            return "[heads]"
        return ""

    def stream(self) -> str:
        """Some stream [d], of the heads if there are any."""
        return self.pick(self.pool)

    # Memories

    def declare(self) -> Memory | Callable[[], None]:
        kind = self.pick(["weights"] * 6 + ["attention", "attention", "state", "state"])
        if kind == "attention":
            return self.attention()
        if kind == "state":
            return self.state()
        name = self.name("M")
        nets = ["matrix(d)"] * 3 + ["mlp(d, expand = 2)"] * 2 + ["residual_mlp(d, expand = 1)"] * 2
        nets += ["linear_bias(d)"] * 4 + ["residual_mlp(d, expand = 1) |> linear(d)", "scaled(d)", "swiglu(d, 2)"]
        net = self.declared[-1].net if self.declared and self.chance(33) else self.pick(nets)
        self.note(net.partition("(")[0] if "|>" not in net else "composed")
        if net == "scaled(d)":
            self.use("scaled")
        memory = Memory(name, net, net != "scaled(d)", False)
        heads, start, memory.reset = self.of_heads(), self.start(memory), self.reset()
        self.line(f"memory {name}{heads} = {net}{start}{memory.reset}")
        self.declared.append(memory)
        return memory

    def start(self, memory: Memory) -> str:
        alike = [m for m in self.declared if m.net == memory.net]
        if alike and self.chance(80):
            self.note("from Other")
            other = self.pick(alike)
            memory.zero = other.zero
            return f" from {other.name}"
        kind = self.pick(["", "", "zeros", "f"])
        if kind == "zeros":
            self.note("from zeros")
            memory.zero = True
            return " from zeros"
        if kind == "f":
            self.note("from f(start)")
            return f" from {self.pick(['0.5 * start', 'tanh(start)', 'start / (1 + sum(start^2))'])}"
        return ""

    def reset(self) -> str:
        kind = self.pick(["", "", "", "every", "when"])
        if kind == "every":
            self.note("reset every")
            return f" reset every {self.pick([3, 4])} tokens"
        if kind == "when":
            self.note("reset when")
            return f" reset when {self.pick(['sum(x) > 1', 'tick % 4 == 3'])}"
        return ""

    def read(self, memory: Memory, clause: str) -> None:
        """A read of the memory here, for the pool."""
        query = self.stream()
        if memory.square and self.chance(35):
            self.note("bare name")
            value = f"{query} @ {memory.name}"
        elif self.chance(20):
            self.note("used twice")
            value = f"{memory.name}({query}) + 0.5 * {memory.name}({self.stream()})"
        else:
            value = f"{memory.name}({query})"
        self.note(clause)
        self.remember(value)

    def group(self, memories: list[Memory]) -> None:
        """Everything that reads and writes these memories, in one stretch of text."""
        above = [self.chance(50) or m.net == "linear_bias(d)" for m in memories]
        for memory, wanted in zip(memories, above, strict=True):
            if wanted:
                self.read(memory, "read above")
        for memory in memories:
            if self.chance(20):
                self.write(memory)
                self.note("write above")
        if self.chance(92):
            self.learn(memories)
            if self.chance(25):
                self.note("several learns")
                self.learn(memories[:1])
        else:
            self.note("never learns")
        for memory in memories:
            if self.chance(15):
                self.write(memory)
                self.note("write below")
        for memory, wanted in zip(memories, above, strict=True):
            if not wanted or self.chance(60):
                self.read(memory, "read below")

    def write(self, memory: Memory) -> None:
        """`M <- …`, leaf by leaf."""
        every = self.pick([1, 1, 2, 3])
        factor = self.pick(["number", "stream"])
        value = "0.9"
        if factor == "stream":
            value = self.bind("keep", f"0.6 * sigmoid(2 + sum({self.stream()}))")
        if every > 1:
            self.note("write every N")
            if factor == "stream":
                value = self.window(value)
                self.note("window in a write")
        self.line(f"{memory.name} <- {value} * {memory.name}" + (f" every {every} tokens" if every > 1 else ""))

    def window(self, value: str) -> str:
        kind = self.pick(["window_mean", "window_sum", "window_last"])
        self.note(kind)
        return f"{kind}({value})"

    # Learns

    def learn(self, memories: list[Memory]) -> None:
        if self.model and self.in_model and self.chance(45):
            self.learn_loss(memories)
            return
        every = self.pick([1, 1, 1, 2, 3])
        form = self.pick(["pair", "joint", "self", "joint"] if len(memories) > 1 else ["pair", "pair", "self"])
        what, objective, single = self.objective(memories, form)
        hold = self.pick(["", "", "gradient", "state"]) if not any(m.learns for m in memories) else ""
        over = not hold and self.chance(30)
        times = not hold and not over and self.chance(33)
        keyed = every == 1 and not over and single and all(m.keyed for m in memories)
        clauses = [f"minimizing {objective}", *self.rules(memories, every > 1, keyed), self.pace(every)]
        if hold:
            self.note(f"hold {hold}")
            clauses.append(f"hold {hold} for {every * self.pick([2, 3, 1])} tokens")
        if times:
            self.note("times")
            clauses.append(f"times {self.pick([2, 3])}")
        clauses += self.shared(memories)
        clauses = self.shuffled(clauses)
        if over:
            clauses.append(self.over())
        for memory in memories:
            memory.learns += 1
        self.line(f"learn {what} " + " ".join(clauses))

    def learn_loss(self, memories: list[Memory]) -> None:
        """Learning from the model's own loss on a token clock."""
        every = self.pick([2, 4])
        self.periods.add(every)
        self.note("loss on tokens")
        clauses = ["minimizing loss", *self.rules(memories, True, False), self.pace(every)]
        if self.chance(33):
            self.note("through")
            clauses.append("through 4 tokens")
        if not any(m.learns for m in memories) and self.chance(20):
            self.note("hold state")
            clauses.append("hold state for 4 tokens")
        before = self.clauses["when"] + self.clauses["when per head"]
        clauses += self.shared(memories)
        if self.clauses["when"] + self.clauses["when per head"] > before:
            self.note("loss and when")
        for memory in memories:
            memory.learns += 1
        self.line(f"learn {', '.join(m.name for m in memories)} " + " ".join(self.shuffled(clauses)))

    def shuffled(self, clauses: list[str]) -> list[str]:
        if self.chance(20):
            first = clauses.pop(self.choose(len(clauses)))
            clauses.insert(0, first)
        return clauses

    def objective(self, memories: list[Memory], form: str) -> tuple[str, str, bool]:
        """Whom it teaches and what, the objective, and whether every weight has one key."""
        names = ", ".join(m.name for m in memories)
        if len(memories) > 1:
            self.note("several memories")
        key, value = self.stream(), self.stream()
        if form == "pair":
            self.note("key -> value")
            kind = self.pick(["", "", "self", "stop", "data", "sum"])
            if kind == "self":
                self.note("target from self")
                value = f"self({value})"
            elif kind:
                value = {"stop": f"stop({value})", "data": f"data({value})", "sum": f"{value} - {key}"}[kind]
                self.note(*{kind} & {"stop", "data"})
            return f"{names} : {key} -> {value}", self.loss_function(), True
        if form == "joint":
            self.note("joint objective")
            one, two = memories[0].name, memories[1].name
            answer = self.pick([f"{one}({key}) + {two}({self.stream()})", f"{one}({two}({key}))"])
            return names, f"{self.loss_function()}({answer}, {value})", True
        self.note("expression of self")
        kind = self.pick(["plain", "norm", "two", "written", "data"])
        if kind == "norm":
            norm = self.name("Norm")
            self.line(f"memory {norm}{self.of_heads()} = rmsnorm")
            self.note("never learns")
            self.reached.append(self.bind("r", f"{norm}({key})"))
            return names, f"l2({norm}(self({key})), {value} - {key})", True
        if kind == "two":
            return names, f"l2(self({key}), {value}) + 0.1 * sum(self({value})^2)", False
        if kind == "written":
            self.note("stop")
            return names, f"0.5 * sum((self({key}) - stop({value}))^2)", True
        if kind == "data":
            self.note("data")
            return names, f"l2(self({key}), data(self({value})) + data({key}))", True
        return names, f"{self.loss_function()}(self({key}), {value})", True

    def loss_function(self) -> str:
        kind = self.pick(["l2", "l2", "dot", "huber(1)", "lp(1)", "robust(0.1)", "cosine", "stream"])
        if kind == "stream":
            self.note("rate of an objective")
            return f"huber({self.bind('delta', f'0.2 + sum({self.stream()}^2)')})"
        return kind

    def rules(self, memories: list[Memory], slow: bool, keyed: bool) -> list[str]:
        clauses = [f"by {self.optimizer(memories, slow, keyed)}"]
        kinds = ["", "", "decay", "weight_decay", "elastic", "smoothed"]
        if keyed:
            kinds += ["erase"] * (16 if any(m.net == "linear_bias(d)" for m in memories) else 2)
        if all(m.keyed and not m.zero for m in memories):
            kinds += ["sphere"]
        kind = self.pick(kinds)
        if kind == "decay" or kind == "smoothed":
            if kind == "smoothed":
                self.note("retention state reset")
                self.use(kind)
            clauses.append(f"retaining {kind}(1 - {self.rate(memories, slow)})")
        elif kind == "weight_decay":
            clauses.append(f"retaining weight_decay({self.rate(memories, slow)})")
        elif kind == "elastic":
            clauses.append("retaining elastic(0.95, 0.001)")
        elif kind == "erase":
            self.note("retention over key")
            self.note(*(["key of a bias"] if any(m.net == "linear_bias(d)" for m in memories) else []))
            clauses.append(f"retaining erase(0.95, {self.rate(memories, slow)})")
        elif kind == "sphere":
            self.note("retention over start")
            clauses.append("retaining sphere")
        if clauses[1:] and "(" in clauses[1] and "rate" in clauses[1]:
            self.note("rate of a retention")
        return clauses

    def optimizer(self, memories: list[Memory], slow: bool, keyed: bool) -> str:
        kinds = ["gd"] * 4 + ["momentum"] * 3 + ["nesterov", "adam", "adamw", "muon", "m3", "restarting", "restarting"]
        kinds += ["clipped", "clipped", "clipped", "by_shape", "by_shape", "pulled", "tick", "slowly"]
        if keyed:
            kinds += ["dgd"] * 5
        if all(m.keyed for m in memories):
            kinds += ["delta_momentum", "deep_momentum", "deep_momentum"]
        kind = self.pick(kinds)
        said = {
            "momentum": ["optimizer state"], "nesterov": ["optimizer state"], "adam": ["optimizer state", "tick"],
            "adamw": ["optimizer state", "optimizer over w", "tick"], "muon": ["optimizer state", "orthogonal", "rank"],
            "m3": ["optimizer state", "orthogonal", "rank", "window_sum"],
            "restarting": ["optimizer state", "optimizer state reset"], "clipped": ["total_norm"],
            "by_shape": ["rank", "shape", "width"], "pulled": ["optimizer over w"], "tick": ["tick"],
            "slowly": ["tick"], "dgd": ["optimizer over key"], "delta_momentum": ["optimizer state"],
            "deep_momentum": ["memory in an optimizer"],
        }  # fmt: skip
        self.note(*said.get(kind, []))
        if kind in DEFINITIONS:
            self.use(kind)
        if kind in ("adam", "adamw"):
            return f"{kind}(0.05)"
        if kind == "m3":
            return "m3(0.05, slow_every = 2)"
        if kind == "tick":
            return "gd(0.1 / (1 + tick))"
        if kind == "deep_momentum":
            return f"deep_momentum({self.rate(memories, slow)}, rate = 0.01)"
        if kind == "momentum" and self.chance(30):
            return f"momentum({self.rate(memories, slow)}, {self.rate(memories, slow)})"
        return f"{kind}({self.rate(memories, slow)})"

    def rate(self, memories: list[Memory], slow: bool) -> str:
        """A small number, or a stream in one of the shapes that rates may have. One window serves several memories only
        if they restart together."""
        if slow and len(memories) > 1 and any(m.reset for m in memories):
            return self.pick(["0.1", "0.05", "0.2"])
        shapes = ["", "", "[]", "[1]"]
        if self.heads:
            shapes += ["[heads]", "[heads, 1]"]
        if all(m.square for m in memories):
            shapes += ["[n]", "[n, 1]"] * 3
        shape = self.pick(shapes)
        if not shape:
            return self.pick(["0.1", "0.05", "0.2"])
        self.note(f"rate {shape}")
        split = " |> split(heads)" if self.heads else ""
        value = {
            "[]": f"sigmoid(sum({self.stream()}))",
            "[1]": f"sigmoid(x |> linear({'heads' if self.heads else 1}){split})",
            "[heads]": "sigmoid(x |> linear(heads))",
            "[heads, 1]": "reshape(sigmoid(x |> linear(heads)), [heads, 1])",
            "[n]": f"sigmoid({self.stream()})",
            "[n, 1]": f"reshape(sigmoid({self.stream()}), [d, 1])",
        }[shape]
        name = self.bind("rate", f"0.2 * {value}")
        return self.window(name) if slow else name

    def pace(self, every: int) -> str:
        self.note("every token" if every == 1 else "every N tokens")
        if self.chance(20):
            known = [n for n, count in self.levels.items() if count == every]
            if not known:
                known = [self.name("pace")]
                self.levels[known[0]] = every
                self.line(f"level {known[0]} = every {every} tokens")
                self.note("level")
            self.note("at")
            return f"at {known[0]}"
        return "every token" if every == 1 else f"every {every} tokens"

    def shared(self, memories: list[Memory]) -> list[str]:
        """The clauses that every learn on a token clock may have."""
        clauses = []
        kind = self.pick(["", "", "one"] if len(memories) == 1 else ["", "list", "list", "one"])
        if kind == "one":
            self.note("weighted")
            clauses.append(f"weighted {self.factor()}")
        elif kind == "list":
            self.note("weighted list")
            clauses.append(f"weighted [{self.factor()}, {self.factor()}]")
        if self.chance(25):
            condition = self.pick(self.conditions)
            self.note("when per head" if self.heads and condition == self.conditions[0] else "when")
            clauses.append(f"when {condition}")
        if self.chance(20):
            self.note("detached")
            clauses.append("detached")
        return clauses

    def factor(self) -> str:
        return self.pick(["0.5", f"sigmoid(sum({self.stream()}))", "1 / (1 + sum(x)^2)"])

    def over(self) -> str:
        self.note("over")
        count = self.pick([2, 2, 3])
        text = f"over last {count} tokens"
        kind = self.pick(["own", "own", "age", "age", ""])
        if kind == "own":
            self.note("over weighted []")
            text += f" weighted sigmoid(sum({self.stream()}))"
        elif kind == "age" and count <= self.size:
            self.note("over weighted [c]")
            text += f" weighted slice({self.stream()}, 0, {count})"
        return text

    # Other units

    def attention(self) -> Callable[[], None]:
        name, options = self.name("A"), []
        if self.chance(50):
            self.note("attention window")
            options.append(f"window = {self.pick([2, 3])}")
        if self.chance(50):
            self.note("attention persistent")
            options.append("persistent = 1")
        self.note("attention")
        self.line(f"memory {name}{self.of_heads()} = attention({', '.join(options)}){self.reset()}")

        def group() -> None:
            turn = "rope({})" if self.size == 2 and self.chance(50) else "{}"
            above = self.chance(50)
            if above:
                self.note("attention above")
                self.remember(f"{name}({turn.format(self.stream())})")
            when = f" when {self.pick(self.conditions)}" if self.chance(25) else ""
            every = self.pick(["token", "token", "2 tokens"])
            self.line(f"learn {name} : {turn.format(self.stream())} -> {self.stream()} every {every}{when}")
            if not above or self.chance(60):
                self.note("attention below")
                self.remember(f"{name}({turn.format(self.stream())})")

        return group

    def remember(self, value: str) -> None:
        """A stream for all that follows, kept small."""
        name = self.bind("r", f"tanh({value})")
        self.pool.append(name)
        self.reached.append(name)

    def state(self) -> Callable[[], None]:
        """`state s[heads]: [d] = 0 reset …`"""
        name = self.name("s")
        shaped = self.chance(70)
        heads = self.of_heads() if shaped else ""
        self.note("state")
        self.note(*(["state shape"] if shaped else []), *(["state heads"] if heads else []))
        reset = self.reset()
        self.note(*(["state reset"] if reset else []))
        self.line(f"state {name}{heads}{': [d]' if shaped else ''} = {self.pick(['0', '1'])}{reset}")

        def group() -> None:
            if self.chance(50):
                self.note("read above")
                self.remember(f"0.5 * {name} + {self.k}")
            new = self.stream() if shaped else "sum(x)"
            every = self.pick([1, 1, 2, 3])
            if every > 1:
                self.note("write every N", "window in a write")
                new = self.window(new)
            ending = f" every {every} tokens" if every > 1 else ""
            self.line(f"{name} <- 0.8 * {name} + 0.1 * {new}{ending}")
            self.note("read below")
            self.remember(f"0.5 * {name} + {self.v}")

        return group

    def plain(self) -> None:
        """A memory that only names weights."""
        if not self.chance(15):
            return
        name = self.name("W")
        self.note("never learns", "used twice")
        self.line(f"memory {name}{self.of_heads()} = matrix(d)")
        self.remember(f"{name}({self.stream()}) + {name}({self.stream()})")

    def series(self) -> None:
        name, heads = self.name("F"), self.of_heads()
        last = self.bind("z", self.stream())
        if self.model and self.chance(70):
            self.note("for", "loss on tokens", "every N tokens", "matrix", "read below")
            self.periods |= {2, 4}
            learned, periods = "minimizing loss", [2, 4]
        else:
            self.note("for", "every token", "every N tokens", "matrix", "read below", "key -> value")
            learned, periods = f": {self.stream()} -> {self.stream()} minimizing l2", [1, 2]
        self.line(f"for p in {periods} {{")
        self.line(f"  memory {name}{heads} = matrix(d)")
        self.line(f"  learn {name} {learned} by gd(0.1) every p tokens")
        self.line(f"  {last} = {last} + {name}({self.stream()})")
        self.line("}")
        self.pool.append(last)
        self.reached.append(last)

    def branch(self) -> None:
        self.note("if")
        name = self.bind("z", self.stream())
        self.line(f"if {self.pick(['d == 2', 'd > 2 and true', 'not (d >= 3)'])} {{")
        self.line(f"  {name} = {name} + {self.stream()}")
        self.line("} else {")
        self.line(f"  {name} = {name} * {self.stream()}")
        self.line("}")
        self.reached.append(name)

    # Whole programs

    def sizes(self) -> None:
        self.heads = self.pick([0, 2])
        self.size = self.pick([2, 3])
        self.dim = self.size * max(1, self.heads)
        self.declared: list[Memory] = []

    def header(self) -> str:
        return f"(dim = {self.dim}" + (f", heads = {self.heads}" if self.heads else "") + ")"

    def inner_block(self) -> str:
        """A block of its own, which the program applies."""
        before, self.lines = self.lines, []
        y = self.body()
        self.line(f"return {y}")
        text = "\n".join([f"block Inner{self.header()} over x: [dim] -> [dim] {{", *self.lines, "}"])
        self.lines = before
        return text

    def program(self) -> Program:
        self.sizes()
        self.in_model = self.model
        inner = self.inner_block() if self.chance(30) else ""
        made = self.written_model(inner) if self.model else self.written_block(inner)
        if len(self.periods) > 1:
            self.note("loss on two periods")
        head, ports, ahead = made
        parts = [*self.definitions.values(), inner, "\n".join([head, *self.lines, "}"])]
        text = "\n\n".join(p.strip() for p in parts if p) + "\n"
        return Program(text, ports, self.model, ahead, " step" in text, self.clauses)

    def apply_inner(self) -> None:
        given = "Inner(dim, heads)" if self.heads else "Inner(dim)"
        if self.chance(50):
            self.note("repeat")
            self.line(f"repeat 2 {{\n    x = x + 0.5 * (x |> {given})\n  }}")
        else:
            self.line(f"x = x + (x |> {given})")

    def written_block(self, inner: str) -> tuple[str, tuple[tuple[str, tuple[int, ...] | None], ...], bool]:
        two = self.chance(25)
        ports: list[tuple[str, tuple[int, ...] | None]] = [("x", (self.dim,))]
        if two:
            ports.append(("z", (self.dim,)))
        if inner:
            self.apply_inner()
            extra = "0.5 * z + x" if two else "x"
            y = self.bind("y", extra)
        else:
            y = self.body("z" if two else "")
        results = [y]
        if not inner and self.chance(40):
            results.append(self.reached[-1])
        self.line(f"return {', '.join(results)}")
        over = ", ".join(f"{n}: [dim]" for n, _ in ports)
        return f"block Main{self.header()} over {over} {{", tuple(ports), False

    def written_model(self, inner: str) -> tuple[str, tuple[tuple[str, tuple[int, ...] | None], ...], bool]:
        words = self.chance(60)
        ahead = self.chance(80)
        ports: list[tuple[str, tuple[int, ...] | None]] = [("ids", None)] if words else [("z", (self.dim,))]
        self.line(f"x = ids |> embed({VOCAB}, dim)" if words else "x = z |> linear(dim)")
        if inner:
            self.note("block in a model")
            self.apply_inner()
            y = "x"
        else:
            y = self.body()
        width = str(VOCAB) if words else "dim"
        out = ""
        if self.chance(35):
            out = self.name("Out")
            self.line(f"memory {out} = linear({width})")
            answer = self.bind("answer", f"{out}(x + {y})")
        else:
            answer = self.bind("answer", f"x + {y} |> linear({width})")
        self.note("next" if ahead else "loss without next")
        if words:
            self.line(f"loss = cross_entropy({answer}, {'next(ids)' if ahead else 'ids'})")
        else:
            self.line(f"loss = 0.5 * sum(({answer} - {'next(z)' if ahead else 'z'})^2)")
        self.steps(out)
        self.line(f"return {answer}")
        over = "ids: int" if words else "z: [dim]"
        return f"model Main{self.header()} over {over} {{", tuple(ports), ahead

    def steps(self, out: str) -> None:
        """The learns on the step clock, and now and then one of everything on the token clock."""
        if out and self.chance(70):
            self.note("named learn")
            every = self.pace_of_steps()
            rules = ["gd(0.1)", "momentum(0.1)", "adam(0.01)", "deep_momentum(0.05)", "m3(0.01, slow_every = 2)"]
            rule = self.pick(rules)
            keep = self.pick(["", " retaining weight_decay(0.1)"])
            self.line(f"learn {out} minimizing loss{keep} by {rule} {every}{self.reach()}")
        if self.chance(20):
            self.note("learn * on tokens", "loss on tokens", "every N tokens")
            every = self.pick([2, 4])
            self.periods.add(every)
            self.line(f"learn * minimizing loss by gd(0.05) every {every} tokens")
        self.note("learn *")
        rule = self.pick(["gd(0.05)", "adamw(0.01, decay = 0.1)", "momentum(0.05)", "gd(0.1 / (1 + tick))"])
        self.line(f"learn * minimizing loss by {rule} {self.pace_of_steps()}{self.reach()}")

    def pace_of_steps(self) -> str:
        if self.chance(35):
            self.note("every 2 steps")
            return "every 2 steps"
        return "every step"

    def reach(self) -> str:
        if self.chance(25):
            self.note("through on steps")
            return " through 4 tokens"
        return ""


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Programs as Hypothesis draws and shrinks them."""
    return Writer(draw(st.randoms(use_true_random=False)).randrange).program()


def valid(program: Program) -> bool:
    """Whether it checks: a few do not, where two memories that feed each other turn out to write at one pace."""
    return not checked(program.text).findings.errors


def valid_programs() -> st.SearchStrategy[Program]:
    return programs().filter(valid)


def seeded(seed: int) -> Program:
    """The program of a seed."""
    return Writer(random.Random(seed).randrange).program()


def using(*clauses: str, without: Sequence[str] = (), most: int = 8, tries: int = 2000) -> Iterator[Program]:
    """Programs of the first seeds that use all these clauses and none of the others."""
    found = 0
    for seed in range(tries):
        program = seeded(seed)
        if all(program.clauses[c] for c in clauses) and not any(program.clauses[c] for c in without) and valid(program):
            yield program
            found += 1
            if found == most:
                return
