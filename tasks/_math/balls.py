"""Real and complex numbers with a bound of their error, and the operations of the grammar on them.

Exact numbers stay exact where they can (``values``).  Otherwise they become balls: a floating-point number of some
hundred bits and a bound of its distance from the true value.  What would become too large is refused beforehand.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tasks._math.tokens import UnreadableError

MAX_SCALE = 5000  # bits of the exponent of a ball
MAX_ANGLE = 200  # bits of an angle


class UndefinedError(ValueError):
    """An operation has no value here, or none that is real."""


class DomainError(UndefinedError):
    """A logarithm or an even root of a negative number, where values are real."""


class SizeError(UnreadableError):
    """A number is too large or too small to be computed."""


@dataclass(frozen=True, slots=True)
class Ball:
    value: Any  # mpf or mpc
    error: Any  # mpf


class Contexts(threading.local):
    """mpmath's contexts by precision; each thread has its own, as they change their precision while they work."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}

    def at(self, precision: int) -> Any:
        if precision not in self.made:
            from mpmath.ctx_mp import MPContext

            context = MPContext()
            context.prec = precision
            self.made[precision] = context
        return self.made[precision]


CONTEXTS = Contexts()


class Balls:
    """Operations at one precision; ``real``: roots and logarithms of negative numbers are undefined."""

    def __init__(self, precision: int, real: bool) -> None:
        self.context, self.real = CONTEXTS.at(precision), real
        # 16 times the relative rounding error 2^-p of one operation, as mpmath's functions may be off by more than one.
        self.unit = self.context.ldexp(1, 4 - precision)
        self.scale = 0  # largest exponent seen

    def of(self, number: Fraction | Ball) -> Ball:
        if isinstance(number, Ball):
            return number
        # The size of a quotient is about the difference of the two lengths.
        if abs(number.numerator.bit_length() - number.denominator.bit_length()) > MAX_SCALE:
            raise SizeError("a number that is too large or too small")
        return self.ball(self.context.mpf(number.numerator) / number.denominator, 0)

    def ball(self, value: Any, error: Any) -> Ball:
        if not self.context.isfinite(value):
            raise UndefinedError("no finite value")
        # i * i is real again, and angles and steps accept real numbers only.
        if isinstance(value, self.context.mpc) and not value.imag:
            value = value.real
        if value:
            size = abs(int(self.context.mag(value)))
            if size > MAX_SCALE:
                raise SizeError("a number that is too large or too small")
            self.scale = max(self.scale, size)
        # Every operation that makes a ball ends here, so its own rounding is always added to what it inherits.
        return Ball(value, error + abs(value) * self.unit)

    def add(self, a: Ball, b: Ball) -> Ball:
        # A bound that is safe also where the operands cancel and the size of the sum says nothing.
        return self.ball(a.value + b.value, a.error + b.error + (abs(a.value) + abs(b.value)) * self.unit)

    def multiply(self, a: Ball, b: Ball) -> Ball:
        # |(a + d)(b + e) - a b| <= |a| e + |b| d + d e.
        error = abs(a.value) * b.error + abs(b.value) * a.error + a.error * b.error
        return self.ball(a.value * b.value, error)

    def distance(self, a: Ball) -> Any:
        """Lower bound of the absolute value; UndefinedError if it may be 0."""
        low = abs(a.value) - a.error
        if low <= 0:
            raise UndefinedError("division by zero or the logarithm of zero")
        return low

    def invert(self, a: Ball) -> Ball:
        low = self.distance(a)
        # |1/a - 1/(a + d)| = d / (|a| |a + d|), and both factors are at least low.
        return self.ball(1 / a.value, a.error / (low * low))

    def is_negative(self, a: Ball) -> bool:
        """Whether a real number is negative; 0 within its error is not."""
        return not self.is_complex(a) and a.value < 0 and -a.value > a.error

    def is_complex(self, a: Ball) -> bool:
        return isinstance(a.value, self.context.mpc)

    def certain(self, a: Ball) -> None:
        """Refuses numbers near the negative real line whose side is not certain: there, functions jump."""
        if self.is_negative(a) and self.real:
            raise DomainError("no real value")
        # The logarithm jumps by 2 pi i across the line: a ball on both sides has no single value.
        if self.is_complex(a) and a.value.real < 0 and abs(a.value.imag) <= a.error:
            raise UndefinedError("a value on a branch cut")

    def exp(self, a: Ball) -> Ball:
        if abs(a.value) > MAX_SCALE or a.error > 1:
            raise SizeError("an exponent that is too large")
        # |exp(a + d) - exp(a)| <= |exp(a)| (e^d - 1), which is below 2 d |exp(a)| for d <= 1.
        value = self.context.exp(a.value)
        return self.ball(value, abs(value) * a.error * 2)

    def log(self, a: Ball) -> Ball:
        low = self.distance(a)
        self.certain(a)
        # The slope 1 / |z| is at most 1 / low within the ball.
        return self.ball(self.context.log(a.value), a.error / low)

    def sqrt(self, a: Ball) -> Ball:
        self.certain(a)
        size = abs(a.value)
        # Away from 0 the slope is at most 1 / (2 sqrt(low)).  At 0 it is infinite, but |sqrt x - sqrt y|^2 <= |x - y|.
        error = a.error / self.context.sqrt(size - a.error) if size > a.error else self.context.sqrt(2 * a.error)
        return self.ball(self.context.sqrt(a.value), error)

    def power(self, a: Ball, b: Ball) -> Ball:
        if abs(a.value) <= a.error:
            raise UndefinedError("a power of zero")
        return self.exp(self.multiply(b, self.log(a)))

    def whole_power(self, a: Ball, n: int) -> Ball:
        """By squaring; negative bases are allowed."""
        if n < 0:
            return self.invert(self.whole_power(a, -n))
        result, square = self.of(Fraction(1)), a
        # Reads the bits of n from the lowest: some 2 log2(n) products, each with its own error.
        while n:
            if n & 1:
                result = self.multiply(result, square)
            n >>= 1
            if n:
                square = self.multiply(square, square)
        return result

    def sine(self, a: Ball, name: str) -> Ball:
        """Sine or cosine of a real angle in radians."""
        # Sine and cosine have slopes of at most 1, so the error of the angle is theirs.  It is absolute: an angle of
        # 2^200 at 320 bits is known to about 2^-116, a larger one soon not at all.
        if a.value and self.context.mag(a.value) > MAX_ANGLE:
            raise SizeError("an angle that is too large")
        if self.is_complex(a):
            raise UndefinedError("an angle that is not real")
        return self.ball(self.context.sin(a.value) if name == "sin" else self.context.cos(a.value), a.error)

    def arc(self, a: Ball, name: str) -> Ball:
        """Arcus sine, cosine or tangent of a real number."""
        if self.is_complex(a):
            raise UndefinedError("an angle that is not real")
        if name == "arctan":
            return self.ball(self.context.atan(a.value), a.error)
        rest = 1 - a.value * a.value
        if rest < -4 * a.error - 4 * self.unit:
            raise UndefinedError("no real angle")
        x = max(min(a.value, self.context.one), -self.context.one)
        # The slope is 1 / sqrt(1 - x^2).  At the ends arccos(1 - d) is about sqrt(2 d).
        near = rest <= 8 * a.error  # to 1 or -1, where the slope is infinite
        error = self.context.sqrt(8 * (a.error + self.unit)) if near else 2 * a.error / self.context.sqrt(rest)
        return self.ball(self.context.asin(x) if name == "arcsin" else self.context.acos(x), error)

    def whole(self, a: Ball, ceiling: bool) -> Fraction:
        """Floor or ceiling; UndefinedError where the error leaves it open."""
        if self.is_complex(a):
            raise UndefinedError("no real value")
        function = self.context.ceil if ceiling else self.context.floor
        # floor(3 - 1e-90) is 2 and floor(3) is 3: a ball around a whole number decides nothing.
        low, high = int(function(a.value - a.error)), int(function(a.value + a.error))
        if low != high:
            raise UndefinedError("a step that is not certain")
        return Fraction(low)
