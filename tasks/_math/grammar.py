r"""The grammar of expressions: tokens in, a tree out; what it does not know makes the answer unreadable.

Where notation is ambiguous it refuses rather than guesses: a factor right after a slash with letters (``a/bc``), a
number right after an operand (``x2``, ``3 5``), two signs in a row, ``\sin x/2``, ``2^3!``, an improper mixed number.
Plain spellings (``x**2``, ``10^23``, ``sqrt(3)``, ``pi/2``, ``3.2e5``, ``6 x 10^3``) mean what they say.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from tasks._math.atoms import FENCES, Atoms
from tasks._math.tokens import Token, UnreadableError
from tasks._math.tree import CONSTANTS, FUNCTIONS, GREEK, Node, has, letters, number, plain_number
from tasks._math.units import PLAIN, PRODUCTS

UNIT_LETTERS = set("msghLNJWVAKCF")
SIGNS = ("+", "-", "\\pm", "\\mp")
COMMANDS = ("\\frac", "\\sqrt", "\\surd", "\\binom", "\\pi", "\\infty", *FENCES)


class Parser(Atoms):
    """Reads one expression from the front of a list of tokens; ``place`` is where it stopped."""

    def sum(self) -> Node:
        self.deeper()
        terms = [self.signed(self.product)]
        while self.peek().text in SIGNS:
            terms.append(self.signed(self.product))
        self.depth -= 1
        return terms[0] if len(terms) == 1 else self.node("sum", *terms)

    def signed(self, operand: Callable[[], Node]) -> Node:
        """An operand after at most one sign."""
        sign = self.peek().text
        if sign not in SIGNS:
            return operand()
        self.place += 1
        if self.peek().text in SIGNS:
            raise UnreadableError("two signs in a row")
        part = operand()
        if sign == "-":
            return self.node("negative", part)
        return part if sign == "+" else self.node("product", self.node("sign", value=sign), part)

    def product(self) -> Node:
        self.open_call = False
        result = self.mixed() or self.power()
        # a/bc may mean (a/b)c or a/(bc), and a/b/c is no clearer: both are refused.  Two plain numbers make a fraction,
        # so 1/2x is (1/2)x.  A sign of multiplication ends the doubt: a/b \cdot c is read from left to right.
        slashed = unclear = False  # after a slash; whether an adjacent factor could belong to the divisor
        while True:
            if self.take("\\cdot"):
                result, unclear = self.node("product", result, self.signed(self.power)), False
                slashed = False
            elif self.peek().text == "/":
                if slashed or self.open_call:
                    raise UnreadableError("it is not clear what is divided")
                self.place += 1
                below = self.signed(self.power)
                slashed, unclear = True, not (plain_number(result) and plain_number(below))
                result = self.quotient(result, below)
            elif self.starts_factor(result):
                if unclear:
                    raise UnreadableError("it is not clear what is divided")
                result = self.node("product", result, self.power())
            else:
                self.open_call = False
                return result

    def quotient(self, above: Node, below: Node) -> Node:
        r"""Degrees after a slashed fraction belong to the whole: ``45/2^\circ``."""
        if below.op == "degree" and plain_number(above):
            return self.node("degree", self.node("quotient", above, below.parts[0]))
        return self.node("quotient", above, below)

    def starts_factor(self, before: Node) -> bool:
        """Whether the next token begins a factor without a sign of multiplication."""
        token = self.peek()
        last = before.parts[-1] if before.op == "product" else before
        if token.kind == "digits" and last.op == "factorial":  # 2!3!
            return True
        if token.kind == "digits":
            raise UnreadableError("a number right after something else")
        if before.op == "degree":
            return False
        if token.kind == "word":
            return not self.is_unit(token, before)
        if token.text == "|":
            return not self.bars
        name = token.text[1:]
        command = token.kind == "command" and (token.text in COMMANDS or name in FUNCTIONS or name in GREEK)
        return command or token.text in ("(", "{", "[")

    def is_unit(self, token: Token, before: Node) -> bool:
        """Whether a word after an operand can be no factor, so that it must be the unit."""
        if token.font == "text" or (token.text.lower() in self.units and self.is_written_unit(token, before)):
            return True
        if token.text in CONSTANTS or token.text in FUNCTIONS or token.text == "sqrt":
            return False
        in_font = token.font == "math" and (len(token.text) > 1 or token.text in UNIT_LETTERS)
        return len(token.text) > 3 or (in_font and plain_number(before))

    def is_written_unit(self, token: Token, before: Node) -> bool:
        """Whether the name of a unit is one here: in a font, unmistakable, or apart from a number."""
        if token.font or len(token.text) > 3:
            return True
        if letters(before):
            return False
        apart = token.spaced and not has(before, "constant") and token.text.lower() not in PRODUCTS
        return token.text in PLAIN or apart

    def mixed(self) -> Node | None:
        r"""A mixed number, ``2\frac{1}{3}`` or ``2 1/3``; None if there is none here."""
        place, whole, after = self.place, self.peek(), self.peek(1)
        if whole.kind != "digits" or "." in whole.text:
            return None
        self.place += 1
        if after.text == "\\frac":
            part = self.primary()
        elif after.kind == "digits" and after.spaced and self.peek(1).text == "/" and self.peek(2).kind == "digits":
            above = self.digits()
            self.place += 1
            part = self.node("quotient", above, self.digits())
        else:
            self.place = place
            return None
        values = [p.value for p in part.parts if isinstance(p.value, Fraction)]
        if len(values) != 2 or self.peek().text in ("^", "!"):
            self.place = place
            return None
        # 3 1/2 means 3 + 1/2, but 3 7/2 could be a product: only a proper fraction makes a mixed number.
        above_below = values[0] / values[1] if values[1] else Fraction(0)
        if not 0 < above_below < 1 or {v.denominator for v in values} != {1} or len(whole.text) > 100:
            raise UnreadableError("an improper mixed number")
        mixed = number(int(whole.text) + above_below)
        return self.node("degree", mixed) if self.take("\\degree") else mixed

    def power(self) -> Node:
        self.deeper()
        base = self.primary()
        if self.take("!"):
            base = self.node("factorial", base)
        if self.take("^"):
            base = self.node("power", base, self.exponent())
        if self.take("\\degree"):
            base = self.node("degree", base)
        if self.peek().text in ("!", "'", "_", "^"):
            raise UnreadableError(f"'{self.peek().text}' in an unexpected place")
        self.depth -= 1
        return base

    def exponent(self) -> Node:
        """A group, or one operand with at most a minus sign; of digits, all: ``10^23``."""
        if self.take("{"):
            inner = self.sum()
            self.need("}")
            return inner
        sign = self.take("-")
        # TeX would raise only the 2 of 10^23, but nobody who writes that means 10^2 times 3.
        inner = self.digits() if self.peek().kind == "digits" else self.primary(one=True)
        return self.node("negative", inner) if sign else inner

    def arguments(self) -> Node:
        r"""The argument of a function without parentheses: factors up to a sign, a slash or another function."""
        result = self.mixed() or self.power()
        while self.peek().text.lstrip("\\") not in FUNCTIONS and self.starts_factor(result):
            result = self.node("product", result, self.power())
        return result
