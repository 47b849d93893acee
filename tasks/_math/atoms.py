r"""The parts of an expression: numbers, letters, groups, fractions, roots and calls of functions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from tasks._math.tokens import Token, UnreadableError
from tasks._math.tree import CONSTANTS, FUNCTIONS, GREEK, INVERSES, Node, number

MAX_DEPTH = 60  # of nested operations
MAX_NODES, MAX_HEIGHT = 400, 100  # of a tree
MAX_DIGITS = 400  # of one number
FENCES = {"\\lfloor": ("\\rfloor", "floor"), "\\lceil": ("\\rceil", "ceil")}
SPLIT = {"\\over": "quotient", "\\choose": "binom"}  # {a \over b}


class Atoms:
    """Tokens with a place to read from, and what reads one operand; ``Parser`` adds sums, products and powers."""

    def __init__(self, tokens: list[Token], units: frozenset[str] = frozenset()) -> None:
        self.tokens, self.units = list(tokens), units
        self.place = self.depth = self.nodes = self.bars = 0
        self.open_call = False  # the last call had no parentheses

    def peek(self, ahead: int = 0) -> Token:
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else Token("end", "")

    def take(self, text: str) -> bool:
        if self.peek().text == text and self.peek().kind != "end":
            self.place += 1
            return True
        return False

    def need(self, text: str) -> None:
        if not self.take(text):
            raise UnreadableError(f"'{text}' is missing")

    def node(self, op: str, *parts: Node, value: Fraction | str = "") -> Node:
        self.nodes += 1
        depth = 1 + max((part.depth for part in parts), default=0)
        if self.nodes > MAX_NODES or depth > MAX_HEIGHT:
            raise UnreadableError("it has too many parts")
        return Node(op, parts, value, depth)

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableError("its parts are nested too deeply")

    def sum(self) -> Node:
        raise NotImplementedError

    def arguments(self) -> Node:
        raise NotImplementedError

    def exponent(self) -> Node:
        raise NotImplementedError

    def group(self) -> Node:
        r"""A sum, or two of them around ``\over`` or ``\choose``."""
        result = self.sum()
        if self.peek().text not in SPLIT:
            return result
        op = SPLIT[self.peek().text]
        self.place += 1
        return self.node(op, result, self.sum())

    # --- operands --------------------------------------------------------------------------------------------

    def primary(self, one: bool = False) -> Node:
        """A number, letter, group or call; ``one``: of a run of letters, only the first."""
        token = self.peek()
        if token.kind == "digits":
            return self.scientific()
        if token.kind == "word":
            known = token.text in CONSTANTS or token.font
            return self.first_letter(token) if one and not known else self.word()
        self.place += 1
        if token.text == "{":
            inner = self.group()
            self.need("}")
            return inner
        if token.text in ("(", "["):
            bars, self.bars = self.bars, 0
            inner = self.sum()
            self.bars = bars
            self.need(")" if token.text == "(" else "]")
            return inner
        if token.text == "|":
            self.bars += 1
            inner = self.node("absolute", self.sum())
            self.bars -= 1
            self.need("|")
            return inner
        return self.command(token)

    def command(self, token: Token) -> Node:
        name = token.text[1:]
        if token.text == ".":  # .\overline{3}
            self.place -= 1
            return self.digits()
        if token.text in ("\\frac", "\\binom"):
            above = self.argument()
            return self.node("quotient" if name == "frac" else "binom", above, self.argument())
        if token.text in ("\\sqrt", "\\surd"):
            return self.root(plain=name == "surd")
        if token.text in FENCES:
            end, op = FENCES[token.text]
            inner = self.node(op, self.sum())
            self.need(end)
            return inner
        if token.kind == "command" and name in FUNCTIONS:
            return self.call(name)
        if token.text in CONSTANTS:
            return self.node("constant", value=CONSTANTS[token.text])
        if token.kind == "command" and name in GREEK:
            return self.letter(token.text)
        what = f"'{token.text}' is not understood" if token.kind != "end" else "something is missing at its end"
        raise UnreadableError(what)

    def word(self) -> Node:
        token = self.peek()
        if token.font == "text" and len(token.text) > 1:
            raise UnreadableError(f"'{token.text[:40]}' is not understood")
        self.place += 1
        if token.text in CONSTANTS and not (token.font == "bold" and token.text in "ei"):
            return self.node("constant", value=CONSTANTS[token.text])
        if token.text in FUNCTIONS:
            return self.call(token.text)
        if token.text == "sqrt" and self.peek().text in ("(", "{"):
            return self.root(plain=True)
        if len(token.text) == 1:
            return self.letter(token.text + ("bold" if token.font == "bold" and token.text in "ei" else ""))
        if len(token.text) > 3 or token.font:
            raise UnreadableError(f"'{token.text[:40]}' is not understood")
        self.place -= 1
        return self.first_letter(token)

    def first_letter(self, token: Token) -> Node:
        """The first of a run of letters; the others are left to be read as factors."""
        self.tokens[self.place : self.place + 1] = [replace(token, text=c, spaced=False) for c in token.text]
        return self.word()

    def letter(self, name: str) -> Node:
        r"""A letter with its subscript, ``x_1``, ``a_{ij}``."""
        if self.take("_"):
            braces = self.take("{")
            parts = [""]
            while self.peek().kind in ("digits", "word") and (braces or len(parts) == 1):
                parts.append(self.peek().text)
                self.place += 1
            if len(parts) == 1:
                raise UnreadableError("a subscript that is not understood")
            if braces:
                self.need("}")
            name += "_" + "".join(parts)
        return self.node("letter", value=name)

    def digits(self) -> Node:
        r"""A number without sign: integer, decimal or repeating decimal ``0.1\overline{6}``."""
        token = self.peek()
        if token.kind != "digits" and token.text != ".":
            raise UnreadableError("a number is missing")
        self.place += 1
        if len(token.text) > MAX_DIGITS:
            raise UnreadableError(f"a number of more than {MAX_DIGITS} digits")
        whole, _, part = token.text.partition(".")
        value = Fraction(int(whole or 0)) + Fraction(int(part or 0), 10 ** len(part))
        if "." in token.text and self.take("\\overline"):
            self.need("{")
            period = self.peek().text
            self.place += 1
            if not (period.isascii() and period.isdigit() and len(period) < MAX_DIGITS):
                raise UnreadableError("a period that is no number")
            self.need("}")
            value += Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(part))
        elif token.text == "." or (token.text.endswith(".") and self.peek().kind != "end"):
            raise UnreadableError("'.' is not understood")
        return self.node("number", value=value)

    def scientific(self) -> Node:
        """A number, with a power of ten as in ``3.2e5``, ``3.2e-5`` or ``3 x 10^5``; ``2e-5`` is a difference."""
        token, inner = self.peek(), self.digits()
        letter, after = self.peek(), self.peek(1)
        if letter.text in ("x", "X") and letter.spaced and after.text == "10" and self.peek(2).text == "^":
            self.tokens[self.place] = Token("sign", "\\cdot")
        elif letter.text in ("e", "E") and not letter.spaced and not letter.font:
            signed = after.text in ("+", "-") and not after.spaced and "." in token.text
            power = self.peek(2) if signed else after
            if power.kind == "digits" and not power.spaced and power.text.isdigit():
                self.place += 3 if signed else 2
                if len(power.text) > 4:
                    raise UnreadableError("a power of ten that is too large")
                exponent = int(power.text) * (-1 if signed and after.text == "-" else 1)
                ten = self.node("power", number(10), number(exponent))
                return self.node("product", inner, ten)
        return inner

    def argument(self) -> Node:
        r"""What a command takes: a group, else one digit, letter or constant, as in ``\frac12``."""
        token = self.peek()
        if token.text == "{":
            return self.primary()
        if token.kind == "digits":
            if not token.text.isdigit():
                raise UnreadableError("an argument that is not clear")
            rest = replace(token, text=token.text[1:], spaced=False)
            self.tokens[self.place : self.place + 1] = [replace(token, text=token.text[0])] + [rest] * bool(rest.text)
            return self.digits()
        if token.kind == "word" and not token.font:
            return self.first_letter(token)
        if token.text == "\\pi" or token.text[1:] in GREEK:
            return self.primary()
        raise UnreadableError("an argument is missing")

    def root(self, plain: bool) -> Node:
        degree = number(2)
        if self.take("["):
            degree = self.digits()
            self.need("]")
        token = self.peek()
        if token.text == "(" or (plain and token.kind == "digits"):
            return self.node("root", degree, self.primary())
        if token.kind == "digits" and len(token.text) > 1:
            raise UnreadableError("it is not clear how far a root goes")
        return self.node("root", degree, self.argument())

    def call(self, name: str) -> Node:
        r"""A function with its power and base; without parentheses its argument is a product, ``\sin 3x``."""
        power = base = None
        while self.peek().text in ("^", "_"):
            if self.take("^"):
                if power is not None:
                    raise UnreadableError("two powers of a function")
                power = self.exponent()
            else:
                self.need("_")
                if base is not None or name != "log":
                    raise UnreadableError("a subscript that is not understood")
                whole = self.peek().kind == "digits" and self.peek(1).text == "("
                base = self.digits() if whole else self.argument()
        fenced = self.peek().text in ("(", "{", "[", "|")
        self.deeper()
        inner = self.primary() if fenced else self.arguments()
        self.depth -= 1
        self.open_call = not fenced
        if power is not None and name in INVERSES and power.op == "negative" and power.parts[0].value == 1:
            name, power = INVERSES[name], None
        parts = (inner,) if base is None else (inner, base)
        node = self.node("call", *parts, value=name)
        return node if power is None else self.node("power", node, power)
