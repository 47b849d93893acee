r"""Answers that no verifier of math may accept, and answers that are costly to compute.

The gold answers are such that no combination of the pieces is equal to one, and that what is put around a right answer
changes it, denies it, or is no mathematics at all.
"""

# fmt: off
PIECES = (
    "<answer>", "</answer>", "\\boxed{", "}", "{", "(", ")", "[", "$", "\\", "<think>", "</think>", "\n", " ",
    "\x00", "9**9**9", "__import__('os').system('true')", "\\frac{", "\\frac{1}{0}", "\\text{", "\\sqrt", "^",
    "_", "&", "\\\\", "\u0661\u0662", "\u00b2", "\uff11", "\ud800", "\u202e", "1e999", "nan", "-", "+", "/",
    ",", ".", "=", "<", "x", "i", "3", "0", "\\pi", "or", "\\left(", "\\begin{pmatrix}", "\\end{pmatrix}",
    "{}{0.__class__}%s", "\\text{ or }", "%",
)
FORMULAS = (
    "x", "3", "+", "-", "^{2}", "_1", "!", "\\frac{x}{2}", "\\sqrt{x}", "(x+1)", "\\pi", "\\sin", "\\cdot", " ",
    "\\int", "\\lim", "\\log_{0}", "|x|", "\\infty", "\\begin{pmatrix} 1 & x \\end{pmatrix}", "\\cup", "<", "e",
    "'",
)
BEFORE = (  # what makes a right answer wrong or unreadable
    "\\ne ", "\\neq", "\\neg ", "\\lnot ", "\\not ", "~", "not ", "\\text{not }", "? ", "\\foo ", "@", "9**9 ",
    "36 @ ", "36 | ", "= ", "\\approx ", "\\sim ", "> ", "\\le ", "\\in ", "! ", "# ", "% ", "& ", "\\& ", "^",
    "_", "' ", "x \\ne ", "\\cancel ", "\\phantom ", "\\overline ", "\\sum ", "\\int ", "\\lim ", "\\forall x ",
    "\\nexists ", "less than ", "\\text{less than }", "about ", "0 \\text{ or } ", "0, ", "1 < ", "17 ",
    "17 + ", "7 \\cdot ", "10", "\\emptyset, ", "\\text{none, or }", "5\\text{ or }", "\\begin{cases}", "\\\\ ",
    "\\hline ", "\\rightarrow ", "\\boxed ", "\\sqrt", "\\to ", "0 = ", "] ", "\\mathbb ", "\\color{red}",
    "\\href{x}", "<b>", "&nbsp;", "None ", "lambda: ", "\\iff ", "\\Rightarrow ", "\\sin ", "\\ln ",
)
AFTER = (
    " is wrong", "\\text{ is wrong}", "\\text{ or more}", " or 0", "\\text{ or } 0", ", 0", "; 17", " | 36",
    " @ 36", " ?", "!", "'", "\\foo", "\\ne 0", "\\ne", "\\neg", " = 0", "=", " < 0", "^", "^{2}", "^{}", "_",
    "_{3", "&", "\\\\ 0", "\\\\", "\\text{ not}", "\\text{ approximately}", "...", "\\ldots", " 17", "+17",
    "\\cdot 7", "\\pmod 7", "\\mod 2", " mod 2", "\\text{ mod }7", " \\cup \\{0\\}x", "\\setminus", "\\cap",
    "\\to 0", "\\approx 1", " % 3", "\\% 3", "//2", "**2", "**", "\\times", "\\cdot", "-", "+", "/", "(", ")",
    "{", "}", "[0]", "\\begin{x}", "\\end{x}", "\\left(", "|", "\\sim", "; drop table", "</b>",
    "\\text{ thousand less}", "\\text{ except } 0", "\\text{ half}", "\\text{ dozen}", "#", "~~ 0", "\\boxed",
    "\\in \\emptyset", "\\iff 0", "\\therefore", "\\Rightarrow 0", "\\text{ Wait, no}", "\\quad 0", "\\not",
    "\\hline", "\\tag{1}", "\\label{x}", "\\middle",
)
GOLDS = (
    "7919", "\\frac{7919}{12}", "-7919.25", "7919\\sqrt{3}-x^{7}", "7919\\pi", "(7919, -\\frac{3}{8})",
    "\\{7919, 12, -4\\}", "7919, 12", "(7919,\\infty)", "\\begin{pmatrix} 7919 \\\\ -2 \\end{pmatrix}",
    "7919\\text{ cm}", "7919^\\circ", "7919x+12y=5", "\\frac{1}{7919!}x", "79{,}191", "7919+12i", "x^2+7919",
    "\\binom{7919}{3}",
)
# fmt: on
BOMBS = (
    "9^{9^{9^9}}",
    "10^{10^{10}}",
    "(10^9)!",
    "(10^{100000})!",
    "99999!",
    "((3000!)!)!",
    "(1+x)^{10000}",
    "(x+y+z)^{300}+1",
    "9**9**9",
    "(" * 25 + "1" + ")" * 25,
    "x" * 800,
    "e^{e^{e^{e^9}}}",
    "2^{2^{2^{2^{2^{2}}}}}",
    "\\binom{10^9}{10^8}",
    "\\sin(10^{10^9})",
    "\\sqrt[1000000]{x}",
    "x" + "".join(f"+\\tan(e^{{{k}}}x)-\\tan(e^{{{k}}}x)" for k in range(2, 30)),
    "1" + "".join(f"+e^{{{k}}}-e^{{{k}}}" for k in range(3002, 3040)),
    "1" + "+\\frac{1}{3000!}" * 60,
    "x" + "+(x+1)^{2000}" * 70,
    "x" + "\\cdot(x+\\frac13)^{900}" * 40,
    "1" + "\\cdot\\frac{3^{19999}}{7^{10000}}" * 30,
    "1" + "+\\binom{10^9}{1000}" * 50,
    "\\cosh(" * 20 + "x" + ")" * 20,
    ",".join(f"\\sin({k}x)" for k in range(2, 60)),
    "\\setminus".join(f"({k},{k}+\\frac{{1}}{{\\sqrt3}})" for k in range(1, 28)),
    "\\cup".join(f"({k},3000!-2999!)" for k in range(50)),
    "\\begin{pmatrix}" + "2^{30000}&" * 80 + "1\\end{pmatrix}",
    "|" * 900,
    "\\sin" * 200 + "x",
    "-" * 900 + "1",
    "1" + "/1" * 400,
    "\\frac" * 190,
    "\\sqrt{" * 160 + "2" + "}" * 160,
    "2" + "^{2" * 200 + "}" * 200,
    "0." + "1" * 900,
    "9" * 999,
)
LARGE = (
    "<answer>" * 200_000,
    "</answer>" * 200_000,
    "<answer>" + "9" * 2_000_000 + "</answer>",
    "\\boxed{" * 200_000,
    "\\boxed" * 200_000,
    "\\boxed{" + "{" * 1_000_000,
    "\\boxed{" + " " * 1_000_000 + "}",
    "\\boxed" + " " * 1_000_000 + "{5}",
    "<answer>" + "(" * 990 + "</answer>",
    "<answer>" + "((" * 240 + "1" + "))" * 240 + "</answer>",
    "<answer>" + "{" * 400 + "1" + "}" * 400 + "</answer>",
    "<answer>" + "\\frac" * 190 + "</answer>",
    "<answer>" + "\\frac1" * 160 + "</answer>",
    "<answer>" + "1," * 490 + "</answer>",
    "<answer>" + "1/" * 490 + "</answer>",
    "<answer>" + "9" * 999 + "</answer>",
    "<answer>" + "1." * 490 + "</answer>",
    "<answer>" + "a " * 490 + "</answer>",
    "<answer>" + "<" * 990 + "</answer>",
    "<answer>" + "x=" * 490 + "</answer>",
    "<answer>5" + "\\text{" * 160 + "</answer>",
    "<answer>" + "$" * 990 + "</answer>",
    "\\boxed{" + "\\text{ or }" * 80 + "}",
    "x" * 5_000_000,
)


def hostile_answer(rng, gold):
    """A wrong answer: pieces that cannot make the gold answer, or the gold answer with what must not be read away."""
    form = rng.randrange(6)
    if form == 0:
        return "".join(rng.choices(PIECES, k=rng.randint(1, 20)))
    if form == 1:
        return "".join(rng.choices(FORMULAS, k=rng.randint(1, 20)))
    if form == 2:
        return rng.choice(BEFORE) + gold
    if form == 3:
        return gold + rng.choice(AFTER)
    if form == 4:
        return rng.choice(BEFORE) + gold + rng.choice(AFTER)
    return "".join(rng.choices((*BEFORE, *AFTER, *FORMULAS, *PIECES), k=rng.randint(1, 12)))
