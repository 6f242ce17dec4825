"""`nldsl new`: a program to start from."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import click

from nldsl.commands.common import Failure

KINDS = {
    "memory": "memories that learn at every token, in a model that learns how they start",
    "continuum": "networks that learn from the model's own loss, each at its own pace",
    "attention": "a small transformer: attention as a memory in closed form",
    "optimizer": "an optimizer of your own, and a small model that learns by it",
}
PLACEHOLDER = "NAME"

EPILOG = (
    "\b\nKinds:\n"
    + "\n".join(f"  {kind:10} {what}" for kind, what in KINDS.items())
    + """

\b
Examples:
  nldsl new mine.nl                        a model `Mine` with memories that learn while they read
  nldsl new paces.nl --kind continuum
  nldsl check mine.nl && nldsl train mine.nl --out run
"""
)


@click.command("new", epilog=EPILOG)
@click.argument("file", metavar="FILE.nl")
@click.option("--kind", type=click.Choice(list(KINDS)), default="memory", show_default=True, help="What it is about.")
def command(file: str, kind: str) -> None:
    """Write a commented program to start from.

    It is right as it stands, reads bytes, and can be trained at once. Its model is named after the file, and a file
    that exists is never written over.
    """
    path = Path(file)
    if path.suffix != ".nl":
        raise click.BadParameter(f"`{file}` must end in .nl, such as {path.stem or 'mine'}.nl", param_hint="FILE.nl")
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(program(kind, path))
    except FileExistsError:
        raise Failure(f"`{file}` exists, and `new` writes over nothing; choose another name") from None
    except (OSError, ValueError) as error:
        raise Failure(
            f"`{file}` can't be written: {(getattr(error, 'strerror', None) or str(error)).lower()}"
        ) from None
    click.echo(f"{file} is a program to start from; see what it says, then: nldsl train {file} --out run")


def program(kind: str, path: Path) -> str:
    """The text of a template, with a model named after the file."""
    text = resources.files("nldsl").joinpath("templates", f"{kind}.nl").read_text(encoding="utf-8")
    name = model_name(path.stem)
    if re.search(rf"^\w+ {name}\b", text, re.MULTILINE):  # the template's own definitions keep their names
        name += "Model"
    text = text.replace(f"model {PLACEHOLDER}(", f"model {name}(")
    return "\n".join(_command(line, path.name) for line in text.split("\n"))


def _command(line: str, file: str) -> str:
    """A line that shows a command shows it with this file, where its name needs no quotes."""
    if not line.startswith("#   nldsl ") or not re.fullmatch(r"[\w.-]+", file):
        return line
    command, *what = re.split(r"  +", line.removeprefix("#   ").replace("FILE", file))
    return f"#   {command:<34}  {what[0]}" if what else f"#   {command}"


def model_name(stem: str) -> str:
    """`my-first_try` -> `MyFirstTry`."""
    words = re.findall(r"[A-Za-z0-9]+", stem)
    name = "".join(word[0].upper() + word[1:] for word in words)
    return name if name[:1].isalpha() else f"Model{name}"
