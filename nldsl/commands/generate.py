"""`nldsl generate`: text from a trained program."""

from __future__ import annotations

from pathlib import Path

import click

EPILOG = """\b
Examples:
  nldsl generate run --prompt "def read(" --tokens 400
  nldsl generate run --prompt "ROMEO:" --temperature 0.7 --top-k 40 --seed 1
  nldsl generate run --temperature 0             the likeliest byte each time

\b
The text is read one byte at a time and the memories learn from it as it grows. Without attention the memory
that this takes does not grow with the text.
"""


@click.command("generate", epilog=EPILOG)
@click.argument("folder", metavar="DIR")
@click.option("--prompt", default="\n", help="The text to go on from.  [default: a new line]")
@click.option("--tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Bytes to write.")
@click.option("--temperature", type=click.FloatRange(min=0), default=1.0, show_default=True,
              help="Below 1 likely bytes are likelier still; 0 takes the likeliest.")  # fmt: skip
@click.option("--top-k", type=click.IntRange(min=0), default=0, help="Draw from so many of the likeliest bytes.  "
              "[default: all]")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1; auto is a GPU if there is one.")
def command(folder: str, prompt: str, tokens: int, temperature: float, top_k: int, seed: int, device: str) -> None:
    """Let a trained program write on from a prompt, byte by byte.

    Bytes appear as soon as they are whole characters of UTF-8; others become U+FFFD.
    """
    from nldsl.commands.trouble import sentences

    start = prompt.encode("utf-8", "surrogateescape")
    if not start:
        raise click.UsageError("--prompt is empty; give a byte to go on from, or leave it out for a new line")
    with sentences():
        from nldsl.compiler.training.generation import as_text, generate
        from nldsl.compiler.training.restore import device_of, restored

        module, _ = restored(Path(folder), device_of(device))
        written = as_text(generate(module, start, tokens, temperature, top_k, seed))
        click.echo(prompt, nl=False)
        for text in written:
            click.echo(text, nl=False)
        click.echo()
