"""Values of expressions: exact fractions where possible, else balls; everything is bounded before it is computed."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property

from tasks._math.balls import Ball, Balls, DomainError, SizeError, UndefinedError
from tasks._math.roots import exact_root
from tasks._math.tokens import UnreadableError
from tasks._math.tree import TRIGONOMETRIC, Node, has, letters

MAX_BITS = 32_768  # of a numerator or denominator
MAX_FACTORIAL = 3000
MAX_POWER = 20_000  # exponent of a number that is not exact
MAX_EFFORT = 6000  # operations of about 10 microseconds that one verdict may cost
PRECISION = 320  # bits
SHORT = 64  # bits of fractions that are near no other short one
Value = Fraction | Ball


class Effort:
    """What a verdict may still cost."""

    def __init__(self) -> None:
        self.left = float(MAX_EFFORT)

    def spend(self, operations: float) -> None:
        self.left -= operations
        if self.left < 0:
            raise UnreadableError("it takes too long to compute")


class Evaluator:
    """Values of trees at one point, which maps letters to numbers; values of parts are remembered."""

    def __init__(self, effort: Effort, point: Mapping[str, Fraction], precision: int, real: bool) -> None:
        self.effort, self.point, self.precision, self.real = effort, point, precision, real
        # Python multiplies long integers by Karatsuba's method, in a time that grows as n^1.585.
        self.cost = (precision / PRECISION) ** 1.6
        self.known: dict[tuple[int, bool], tuple[Node, Value]] = {}
        self.longest = 0  # bits of the longest constant fraction, which may lie as near to another number
        self.angle = False  # inside a trigonometric function, where degrees are converted

    @cached_property
    def balls(self) -> Balls:
        """Made when they are needed, as they import mpmath."""
        return Balls(self.precision, self.real)

    def value(self, node: Node) -> Value:
        """UndefinedError where there is none; UnreadableError if it would be too large or take too long."""
        key = (id(node), self.angle)
        if key not in self.known:
            value = getattr(self, f"of_{node.op}")(node)
            self.effort.spend(1)
            if isinstance(value, Fraction):
                bits = max(value.numerator.bit_length(), value.denominator.bit_length())
                if bits > MAX_BITS:
                    raise SizeError("a number that is too large or too small")
                self.effort.spend((bits / 2000) ** 2)
                if bits > max(SHORT, self.longest) and not letters(node):
                    self.longest = bits
            else:
                self.effort.spend(self.cost)
            # The key is an address, unique only while its node lives: the entry keeps the node alive.
            self.known[key] = node, value
        return self.known[key][1]

    def ball(self, node: Node) -> Ball:
        return self.balls.of(self.value(node))

    # --- numbers -----------------------------------------------------------------------------------------------

    def of_number(self, node: Node) -> Value:
        assert isinstance(node.value, Fraction)
        return node.value

    def of_letter(self, node: Node) -> Value:
        return self.point[str(node.value)]

    def of_constant(self, node: Node) -> Value:
        context = self.balls.context
        if node.value == "inf":
            raise UndefinedError("infinity is no number")
        if node.value == "i":
            return self.balls.ball(context.mpc(0, 1), 0)
        # The plus sign rounds mpmath's constant to the precision of the context.
        return self.balls.ball(+context.pi if node.value == "pi" else +context.e, 0)

    def of_degree(self, node: Node) -> Value:
        """Degrees are an unknown factor, except in an angle."""
        value = self.value(node.parts[0])
        if not self.angle:
            return self.multiply(value, self.point["degree"])
        return self.balls.multiply(self.balls.of(value), self.balls.ball(self.balls.context.pi / 180, 0))

    # --- arithmetic --------------------------------------------------------------------------------------------

    def of_sum(self, node: Node) -> Value:
        total = self.value(node.parts[0])
        for part in node.parts[1:]:
            value = self.value(part)
            if isinstance(total, Fraction) and isinstance(value, Fraction):
                self.effort.spend((total.denominator.bit_length() / 2000) ** 2)
                total += value
            else:
                total = self.balls.add(self.balls.of(total), self.balls.of(value))
        return total

    def multiply(self, a: Value, b: Value) -> Value:
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return a * b
        # Exactly 0, however large the error of the other factor.
        if a == 0 or b == 0:
            return Fraction(0)
        return self.balls.multiply(self.balls.of(a), self.balls.of(b))

    def of_product(self, node: Node) -> Value:
        return self.multiply(*map(self.value, node.parts))

    def of_negative(self, node: Node) -> Value:
        return self.multiply(Fraction(-1), self.value(node.parts[0]))

    def inverse(self, value: Value) -> Value:
        if isinstance(value, Fraction):
            if not value:
                raise UndefinedError("division by zero")
            return 1 / value
        return self.balls.invert(value)

    def of_quotient(self, node: Node) -> Value:
        above, below = map(self.value, node.parts)
        return self.multiply(above, self.inverse(below))

    def of_absolute(self, node: Node) -> Value:
        value = self.value(node.parts[0])
        return abs(value) if isinstance(value, Fraction) else self.balls.ball(abs(value.value), value.error)

    def of_floor(self, node: Node) -> Value:
        value = self.value(node.parts[0])
        if letters(node):  # a step may lie beyond every point: an unknown function of its argument
            if not isinstance(value, Fraction):
                raise UnreadableError("steps at numbers that are not exact")
            # Equal arguments give equal steps: floor(x + x) is floor(2x).  Hashes of fractions are not salted.
            return Fraction(random.Random(f"{node.op} {hash(value)}").randrange(1, 10**6), 997)
        if isinstance(value, Fraction):
            return Fraction(math.ceil(value) if node.op == "ceil" else math.floor(value))
        return self.balls.whole(value, node.op == "ceil")

    of_ceil = of_floor

    def whole(self, node: Node, limit: int) -> int:
        value = self.value(node)
        if not isinstance(value, Fraction) or value.denominator != 1 or value < 0:
            raise UndefinedError("a factorial of something else than a whole number")
        if value > limit:
            raise SizeError("a number that is too large")
        return int(value)

    def of_factorial(self, node: Node) -> Value:
        number = self.whole(node.parts[0], MAX_FACTORIAL)
        self.effort.spend(number / 10)
        return Fraction(math.factorial(number))

    def of_binom(self, node: Node) -> Value:
        above, below = (self.whole(part, 10**9) for part in node.parts)
        # C(n, k) = C(n, n - k), and it has at most k log2(n) bits.
        below = min(below, above - below)
        if below < 0:
            return Fraction(0)
        if below * max(above, 2).bit_length() > MAX_BITS:
            raise SizeError("a number that is too large")
        self.effort.spend(below / 5)
        return Fraction(math.comb(above, below))

    # --- powers and roots --------------------------------------------------------------------------------------

    def of_power(self, node: Node) -> Value:
        base_node, exponent_node = node.parts
        exponent = self.value(exponent_node)
        if base_node.op == "constant" and base_node.value == "e":
            return Fraction(1) if exponent == 0 else self.exp(exponent)
        base = self.value(base_node)
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            return self.whole_power(base, int(exponent))
        if isinstance(exponent, Fraction) and isinstance(base, Fraction):
            root = exact_root(base, exponent.denominator)
            if root is not None:
                return self.whole_power(root, exponent.numerator)
        if base == 0:
            raise UndefinedError("a power of zero")
        self.effort.spend(4 * self.cost)
        try:
            return self.balls.power(self.balls.of(base), self.balls.of(exponent))
        except DomainError as error:
            if isinstance(exponent, Fraction) and exponent.denominator % 2 == 0:
                raise
            raise UndefinedError(str(error)) from error  # x^{1/3} is written for the root, too

    def whole_power(self, base: Value, exponent: int) -> Value:
        if base == 0 and exponent <= 0:
            raise UndefinedError("a power of zero")
        if isinstance(base, Fraction):
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if abs(base) == 1 or base == 0:
                return base if exponent % 2 else abs(base)
            # Estimated first: 9^(9^9) has 369,693,100 digits and must never be computed.
            if (bits - 1) * abs(exponent) > MAX_BITS:
                raise SizeError("a number that is too large or too small")
            return base**exponent
        if abs(exponent) > MAX_POWER:
            raise SizeError("a power that is too large")
        self.effort.spend(2 * abs(exponent).bit_length() * self.cost)
        return self.balls.whole_power(base, exponent)

    def of_root(self, node: Node) -> Value:
        """The real root of a negative number if the degree is odd, otherwise the principal root."""
        degree, value = self.whole(node.parts[0], 100), self.value(node.parts[1])
        if degree < 2:
            raise UndefinedError("a root of degree 0 or 1")
        if isinstance(value, Fraction):
            # The cube root of -8 is -2 here, as in school; the principal root would be complex.
            root = exact_root(abs(value) if degree % 2 else value, degree)
            if root is not None:
                return -root if value < 0 else root
        self.effort.spend(4 * self.cost)
        ball = self.balls.of(value)
        if degree == 2:
            return self.balls.sqrt(ball)
        if degree % 2 and self.balls.is_negative(ball):
            ball = self.balls.ball(-ball.value, ball.error)
            return self.balls.multiply(self.balls.of(Fraction(-1)), self.root(ball, degree))
        return self.root(ball, degree)

    def root(self, ball: Ball, degree: int) -> Ball:
        return self.balls.power(ball, self.balls.of(Fraction(1, degree)))

    # --- functions ---------------------------------------------------------------------------------------------

    def exp(self, value: Value) -> Ball:
        """e to a real or complex power."""
        self.effort.spend(4 * self.cost)
        return self.balls.exp(self.balls.of(value))

    def of_call(self, node: Node) -> Value:
        name = str(node.value)
        self.effort.spend(5 * self.cost)
        if name in TRIGONOMETRIC:
            return self.trigonometric(node.parts[0], name)
        value = self.value(node.parts[0])
        if name == "exp":
            return Fraction(1) if value == 0 else self.exp(value)
        if name in ("ln", "log", "lg"):
            return self.logarithm(value, node)
        if name in ("sinh", "cosh", "tanh"):
            return self.hyperbolic(value, name)
        if name in ("arcsin", "arccos", "arctan"):
            return self.balls.arc(self.balls.of(value), name)
        raise UnreadableError(f"'{name}' is not understood")

    def trigonometric(self, node: Node, name: str) -> Value:
        before, self.angle = self.angle, self.angle or has(node, "degree")
        angle = self.ball(node)
        self.angle = before
        if name in ("sin", "cos"):
            return self.balls.sine(angle, name)
        sine, cosine = self.balls.sine(angle, "sin"), self.balls.sine(angle, "cos")
        quotients: dict[str, tuple[Value, Ball]] = {
            "tan": (sine, cosine),
            "cot": (cosine, sine),
            "sec": (Fraction(1), cosine),
            "csc": (Fraction(1), sine),
        }
        above, below = quotients[name]
        return self.multiply(above, self.balls.invert(below))

    def logarithm(self, value: Value, node: Node) -> Value:
        if value == 1:
            return Fraction(0)
        if value == 0:
            raise UndefinedError("the logarithm of zero")
        result = self.balls.log(self.balls.of(value))
        if node.value == "ln":
            return result
        # As at school: log without a base is to base 10, ln the natural logarithm.
        base = self.ball(node.parts[1]) if len(node.parts) > 1 else self.balls.of(Fraction(10))
        return self.balls.multiply(result, self.balls.invert(self.balls.log(base)))

    def hyperbolic(self, value: Value, name: str) -> Value:
        up = self.exp(value)
        down = self.balls.multiply(self.balls.of(Fraction(-1)), self.balls.invert(up))
        minus, plus = self.balls.add(up, down), self.balls.add(up, self.balls.invert(up))
        if name == "tanh":
            return self.balls.multiply(minus, self.balls.invert(plus))
        return self.balls.multiply(minus if name == "sinh" else plus, self.balls.of(Fraction(1, 2)))
