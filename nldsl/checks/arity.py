"""Which clauses a `learn` may and must have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nldsl.graph import Period
from nldsl.syntax import tree

# For each kind of learn, what is not allowed and why. "step" adds to the others on a step clock.
CLOSED_FORM = ("minimizing", "retaining", "by", "hold", "over", "weighted", "times", "through")
FORBIDDEN: dict[str, dict[str, str]] = {
    "pairs": dict.fromkeys(
        CLOSED_FORM, "attention keeps its pairs as they are, its best fit being known in closed form"
    ),
    "loss": {
        "over": "the loss is summed over the window already",
        "times": "the loss is known once per window",
    },
    "local": {"through": "`through` says how far a gradient of `loss` reaches back"},
    "star": {
        "weighted": "`learn *` teaches too many memories to weigh them here",
        "when": "`learn *` learns from every tick",
    },
    "step": {
        "over": "a training step sums over its whole batch",
        "times": "a training step has one gradient",
        "hold": "within a step every read sees the values at its start",
        "when": "a training step learns from every tick that has a target",
        "weighted": "a training step takes the mean over all ticks; weigh the terms of `loss`",
    },
}
NEEDED = {
    "pairs": (),
    "loss": ("by",),
    "local": ("minimizing", "by"),
}
WAYS = {
    "minimizing": "say what it minimises, such as `minimizing l2`",
    "by": "say by which optimizer, such as `by gd(0.1)`",
}

Report = Callable[..., Any]


def clauses(statement: tree.Learn, kind: str, period: Period | None, report: Report) -> bool:
    """Report every clause of a learn that is missing, repeated or out of place."""
    wrong: list[Any] = []

    def say(message: str, span: Any, hint: str = "", **rest: Any) -> None:
        wrong.append(report("NL205", message, span, hint, **rest))

    seen: dict[str, tree.Name] = {}
    for clause in statement.clauses:
        if clause.id in seen:
            say(f"`{clause.id}` is said twice", clause.span, second=(seen[clause.id].span, "the first"))
        seen.setdefault(clause.id, clause)
    rules = [FORBIDDEN[kind]]
    if not statement.targets:
        rules.append(FORBIDDEN["star"])
    if period is not None and period.unit == "step":
        rules.append(FORBIDDEN["step"] if kind != "pairs" else {"every": "attention keeps pairs of tokens"})
    reasons = {word: why for rule in rules for word, why in rule.items()}
    misplaced: dict[str, list[str]] = {}
    for word in seen:
        if word in reasons:
            misplaced.setdefault(reasons[word], []).append(word)
    for why, words in misplaced.items():
        place = "has no place here" if len(words) == 1 else "have no place here"
        say(f"{' and '.join(f'`{w}`' for w in words)} {place}: {why}", seen[words[0]].span)
    for word in NEEDED[kind]:
        if word not in seen:
            say("this `learn` has no " + f"`{word}`", statement.span, WAYS[word])
    if "every" not in seen and "at" not in seen:
        say(
            "this `learn` does not say how often",
            statement.span,
            "add `every token`, `every 16 tokens` or `every step`",
        )
    elif "every" in seen and "at" in seen:
        say("the period is said twice, by `every` and by `at`", seen["at"].span)
    _combinations(statement, kind, seen, say)
    return not wrong


def _combinations(statement: tree.Learn, kind: str, seen: dict[str, tree.Name], say: Callable[..., None]) -> None:
    if "times" in seen and "hold" in seen:
        say(
            "`times` takes a new gradient for each update, and `hold` keeps them at one state",
            seen["times"].span,
            second=(seen["hold"].span, "held here"),
        )
    if kind == "loss" and statement.hold is not None and statement.hold.what == "gradient":
        say(
            "`hold gradient` has no place here: the gradient of `loss` is taken at its segment's weights already",
            seen["hold"].span,
        )
    if kind == "loss" and statement.key is not None:
        say("a learn from `loss` has no key and value", statement.key.span)
    if kind == "pairs":
        if statement.key is None:
            say("attention learns pairs", statement.span, "write `learn A : key -> value every token`")
        if len(statement.targets) > 1:
            say("attention is taught alone", statement.targets[1].span, "give each memory its own `learn`")
    if not statement.targets and kind == "local":
        say("`learn *` minimises `loss`", statement.span, "name the memories that learn from their own objective")
