"""Every diagnostic code, one row each. `nldsl explain CODE` prints the page of the same name in `pages/`."""

from __future__ import annotations

CODES: dict[str, str] = {
    # the file
    "NL001": "the file can't be read",
    "NL002": "the file defines nothing",
    "NL003": "the file is not text",
    "NL004": "the file is too long",
    "NL005": "the text is nested too deeply",
    # syntax
    "NL010": "unexpected word or symbol",
    "NL011": "unexpected character",
    "NL012": "a doc string that documents nothing",
    # names
    "NL101": "unknown name",
    "NL102": "defined twice",
    "NL103": "module not found",
    "NL104": "import path not allowed",
    "NL105": "imports in a cycle",
    "NL106": "module has no such name",
    "NL107": "the wrong kind of thing",
    "NL108": "used above its definition",
    "NL109": "no such program",
    "NL110": "two parameters with one name",
    "NL111": "no loss, or a second one",
    "NL112": "a definition that applies itself",
    # arity
    "NL201": "wrong number of arguments",
    "NL202": "unknown or repeated argument",
    "NL203": "a number is needed",
    "NL204": "unknown hyper-parameter",
    "NL205": "a clause missing, repeated or out of place",
    "NL206": "a result is missing, or there is one too many",
    "NL207": "a number that can't be used here",
    # shapes
    "NL301": "shapes do not fit",
    "NL302": "not the declared shape",
    "NL303": "heads do not fit",
    "NL304": "no key here",
    "NL305": "not a matrix",
    "NL306": "a rate does not fit its weights",
    # clocks
    "NL401": "slower reads faster without an aggregate",
    "NL402": "an aggregate without a window",
    "NL403": "a hold that is no multiple of its period",
    "NL404": "loss periods that do not divide one another",
    "NL405": "the wrong unit for this clock",
    # time
    "NL501": "a cycle within one tick",
    "NL502": "the future is read",
    "NL503": "`next` of something not known yet",
    # levels
    "NL601": "unknown level",
    "NL602": "two memories, each inner to the other",
    # the gradient contract
    "NL701": "a parameter that nothing learns",
    "NL702": "a parameter that its loss cannot reach",
    "NL703": "a parameter learned twice",
    # limits
    "NL801": "the program is too large",
    "NL802": "definitions applied too deeply",
    "NL803": "too many parameters",
    # warnings and notes
    "NL901": "a memory that never learns",
    "NL902": "a learn that nothing reads",
    "NL903": "a level that cannot fire",
    "NL904": "short loss segments",
}
