"""`nldsl equiv`: are two programs the same function? If not, on what do they part?"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any

import click

from nldsl.commands.common import WRONG, Failure, load, set_option, settings

if TYPE_CHECKING:
    from torch import Tensor

    from nldsl.compiler.equivalence.comparing import Counterexample, Difference, Verdict
    from nldsl.graph import LevelGraph

MANY = 8  # numbers in a line; pairs of parameters
SHOWN = 64  # parameters, all in all

EPILOG = """\b
Examples:
  nldsl equiv rules.nl:Delta rules.nl:ByHand
  nldsl equiv a.nl:OmegaNet b.nl:DeltaNet --set dim=8 --set-a c=1
  nldsl equiv std.titans:LMM std.titans:LMM --set dim=8 --set-a chunk=1 --set-b chunk=4
  nldsl equiv a.nl b.nl --pair up.w=in.w --length 200 --draws 50

\b
Say that rules.nl holds one step of descent on half the squared error,
  block Delta(d = 2) over q: [d], k: [d], v: [d], beta: [] -> [d] {
    memory M = matrix(d) from zeros
    learn M : k -> v minimizing l2 by gd(beta) every token
    return M(q)
  }
and a block ByHand that writes `M <- M + beta * outer(k, v - k @ M)` in place of the learn. Then
  equal to 4e-16 over 20 draws of 1 to 40 tokens (outputs and gradients)
says that both gave the same numbers whatever they read: the delta rule is that step. Without the `- k @ M` they
part, and a smallest example shows where.

\b
Random numbers show a difference and never prove that there is none. A period longer than --length is not
tried. What learns on a step clock matters to training alone and is not compared, nor is a start that is learned:
it is a parameter, and parameters are drawn anew, the same for both programs.
Exit codes: 0 equal, 1 different, or nothing could be compared.
"""


def _pairs(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        first, equal, second = (part.strip() for part in text.partition("="))
        if not (first and equal and second):
            raise click.BadParameter(f"`{text[:80]}` is not NAME=NAME, such as M.w=W.w", ctx, parameter)
        if first in found:
            raise click.BadParameter(f"`{first}` is in two pairs", ctx, parameter)
        found[first] = second
    return found


@click.command("equiv", epilog=EPILOG)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@set_option
@click.option("--set-a", "only_a", multiple=True, metavar="NAME=VALUE", callback=settings, help="Of A alone.")
@click.option("--set-b", "only_b", multiple=True, metavar="NAME=VALUE", callback=settings, help="Of B alone.")
@click.option("--pair", "pairs", multiple=True, metavar="NAME=NAME", callback=_pairs,
              help="A parameter of A and its partner in B, if names and order don't say it. Repeatable.")  # fmt: skip
@click.option(
    "--draws", metavar="N", type=click.IntRange(min=1), default=20, show_default=True, help="How many are compared."
)
@click.option(
    "--length",
    metavar="N",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="Tokens of the longest draw.",
)
@click.option("--tolerance", metavar="X", type=click.FloatRange(min=0, min_open=True), default=1e-9, show_default=True,
              help="What counts as equal, relative to numbers beyond one.")  # fmt: skip
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Of all random numbers.")
def command(
    first: str,
    second: str,
    hyper: dict[str, Any],
    only_a: dict[str, Any],
    only_b: dict[str, Any],
    pairs: dict[str, str],
    draws: int,
    length: int,
    tolerance: float,
    seed: int,
) -> None:
    """Say whether two programs are the same function, and if not, show where they part.

    Runs both on the same random inputs with the same random parameters, in float64, and compares what they return and
    its gradients. Inputs and outputs belong together by their place; parameters by name, the others of a shape in their
    order. Where the programs part, the inputs are made small before they are shown.
    """
    both = _shared(first, second, hyper)
    graphs = [
        load(p, h | o, length, warn=True) for p, h, o in zip((first, second), both, (only_a, only_b), strict=True)
    ]
    from nldsl.compiler.equivalence.comparing import compare
    from nldsl.compiler.equivalence.pairing import UnlikeError

    try:
        verdict = compare(*graphs, pairs=pairs, count=draws, length=length, tolerance=tolerance, seed=seed)
    except UnlikeError as error:
        raise Failure(str(error)) from None
    renamed = [f"`{a}` = `{b}`" for a, b in verdict.pairs.items() if a != b]
    if renamed:
        more = f" and {len(renamed) - MANY} more" if len(renamed) > MANY else ""
        click.echo(f"parameters paired: {', '.join(renamed[:MANY])}{more}\n")
    click.echo(said(verdict, _names(first, second, graphs)))
    if not verdict.equal:
        raise click.exceptions.Exit(WRONG)


def _shared(first: str, second: str, hyper: dict[str, Any]) -> list[dict[str, Any]]:
    """What `--set` says to each of the two: a name is for those that have it, and one of them must."""
    if not hyper:
        return [{}, {}]
    known = [_hyper_parameters(program, hyper) for program in (first, second)]
    for name in hyper:
        if not any(name in names for names in known):
            has = ", ".join(f"`{n}`" for n in dict.fromkeys([*known[0], *known[1]])) or "none"
            raise Failure(f"neither program has a hyper-parameter `{name}`; they have {has}")
    return [{n: v for n, v in hyper.items() if n in names} for names in known]


def _hyper_parameters(program: str, hyper: dict[str, Any]) -> list[str]:
    """The names of a program's hyper-parameters; of one that can't be read all in `hyper`, as loading it says why."""
    from nldsl.diagnostics import Findings
    from nldsl.program import function_of

    function = function_of(program, Findings())
    return list(hyper) if function is None else [p.name for p in function.definition.parameters]


def _names(first: str, second: str, graphs: list[LevelGraph]) -> tuple[str, str]:
    """By their own names, or, where these are the same, by their files or their places."""
    a, b = (graph.program for graph in graphs)
    return (a, b) if a != b else (first, second) if first != second else ("A", "B")


# The verdict in words


def said(verdict: Verdict, names: tuple[str, str]) -> str:
    """names: what the two programs are called."""
    tried = verdict.compared + verdict.skipped
    if not tried or not verdict.compared:
        every = f"all {tried} draws" if tried > 1 else "the only draw"
        return f"nothing was compared: in {every} both programs gave numbers that are not finite"
    found = verdict.counterexample
    if found is not None:
        return "\n".join(_example(found, names))
    plural = "s" * (verdict.compared != 1)
    lengths = f"{verdict.shortest} to {verdict.longest}" if verdict.shortest < verdict.longest else verdict.longest
    kinds = [kind if kind == "losses" else f"{kind}s" for kind in verdict.kinds]
    listed = " and ".join(filter(None, [", ".join(kinds[:-1]), kinds[-1]]))
    skipped = f"\n{_count(verdict.skipped)} skipped: both programs gave numbers that are not finite"
    size = f"equal to {verdict.apart:.0e}" if verdict.apart else "exactly equal"
    return (
        f"{size} over {verdict.compared} draw{plural} of {lengths} token{'s' * (verdict.longest != 1)} ({listed})"
        + skipped * bool(verdict.skipped)
    )


def _count(draws: int) -> str:
    return f"{draws} draw was" if draws == 1 else f"{draws} draws were"


def _example(found: Counterexample, names: tuple[str, str]) -> list[str]:
    """The inputs on which they part, the place and both values."""
    difference = found.difference
    where = f" at token {difference.tick}" if difference.tick is not None else ""
    by = f", by {difference.apart:.3g}" if math.isfinite(difference.apart) else ""
    verb = "return the same, but their gradients part" if difference.what.startswith("gradient") else "part"
    lines = [f"different: `{names[0]}` and `{names[1]}` {verb}{where}{by}", "", *_inputs(found), *_parameters(found)]
    lines += ["", f"  {_what(difference)}{where}"]
    width = max(map(len, names))
    values = _both(difference.first, difference.second)
    lines += [f"    {name.ljust(width)}  {value}" for name, value in zip(names, values, strict=True)]
    return [*lines, "", f"found in draw {found.number + 1}, then made smaller"]


def _what(difference: Difference) -> str:
    kind, _, name = difference.what.partition(" by ")
    return f"gradient by `{name}` of a random sum of what is returned" if name else "loss" if kind == "losses" else kind


def _inputs(found: Counterexample) -> list[str]:
    """A line for each token."""
    rows = [["token", *found.inputs]]
    for tick in range(found.draw.ticks):
        rows.append([str(tick), *(_value(x[0, tick]) for x in found.draw.inputs)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _parameters(found: Counterexample) -> list[str]:
    values = found.draw.parameters
    size = sum(x.numel() for x in values.values())
    if not size:
        return []
    if size > SHOWN:
        return ["", f"  with the {size:,} parameters of that draw, rounded as far as it still shows"]
    width = max(map(len, values))
    return ["", *(f"  {name.ljust(width)}  {_listed(x.tolist())}" for name, x in values.items())]


def _value(x: Tensor) -> str:
    """Its numbers; of many only those that are not 0, by place."""
    if x.numel() <= MANY:
        return _listed(x.tolist())
    places = [tuple(place) for place in x.nonzero().tolist()]
    shown = [f"{_listed(list(place))}: {_listed(x[place].item())}" for place in places[:MANY]]
    more = [f"and {len(places) - MANY} more"] if len(places) > MANY else []
    return f"{{{', '.join(shown + more)}}}" if places else "0"


def _both(a: Tensor, b: Tensor) -> tuple[str, str]:
    """Both values, of many numbers the one that differs most, with as many digits as it takes to see it."""
    before = ""
    if a.numel() > MANY:
        apart = (a - b).abs()
        place = max(product(*map(range, a.shape)), key=lambda one: float(apart[one]))
        before = f"{_listed(list(place))}: "
        a, b = a[place], b[place]
    for digits in (6, 9, 12, 17):
        texts = before + _listed(a.tolist(), digits), before + _listed(b.tolist(), digits)
        if texts[0] != texts[1]:
            break
    return texts


def _listed(value: Any, digits: int = 6) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_listed(v, digits) for v in value)}]"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
