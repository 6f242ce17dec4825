"""Whether two programs are the same function. Read `comparing` first."""

from nldsl.compiler.equivalence.comparing import Verdict, compare

__all__ = ["Verdict", "compare"]
