"""The command line in this process: what it prints and its exit code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from nldsl.cli import main


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Nldsl = Callable[..., Ran]

FINE = """\
model Fine(vocab = 256, dim = 4) over ids: int {
  x = ids |> embed(vocab, dim)
  memory M = matrix(dim)
  learn M : x -> x minimizing l2 by momentum(0.1) every token
  memory A = attention(window = 4)
  learn A : x -> x every token
  y = M(x) + A(x)
  memory F = matrix(dim)
  logits = y + F(y) |> linear(vocab)
  loss = cross_entropy(logits, next(ids))
  learn F minimizing loss by gd(0.1) every 4 tokens
  learn * minimizing loss by gd(0.1) every step
  return logits
}
"""


@pytest.fixture
def nldsl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nldsl:
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, out, err)

    return run


@pytest.fixture(scope="session")
def fine_text() -> str:
    """A small model that reads bytes."""
    return FINE


@pytest.fixture
def fine(tmp_path: Path, fine_text: str) -> Path:
    """The file of a small model that reads bytes."""
    path = tmp_path / "fine.nl"
    path.write_text(fine_text)
    return path
