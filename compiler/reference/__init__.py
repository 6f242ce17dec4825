"""The reference interpreter: the meaning of the language, as plain as can be. Everything compiled agrees with it."""

from nldsl.compiler.reference.interpreter import Interpreter

__all__ = ["Interpreter"]
