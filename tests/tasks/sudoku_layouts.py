"""Sudoku grids in many layouts: written by a formula and checked cell by cell, without code of the task."""

import itertools
import json

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}


def sudoku_case(rng):
    """Clues and a full grid that obeys the rules, rows joined by slashes."""
    size = rng.choice((4, 6, 9))
    height, width = BOXES[size]
    digits = rng.sample("123456789"[:size], size)
    bands = [
        band * height + row for band in rng.sample(range(width), width) for row in rng.sample(range(height), height)
    ]
    stacks = [s * width + c for s in rng.sample(range(height), height) for c in rng.sample(range(width), width)]
    rows = ["".join(digits[(width * (r % height) + r // height + c) % size] for c in stacks) for r in bands]
    clues = ["".join(d if rng.random() < 0.4 else "." for d in row) for row in rows]
    return {"clues": "/".join(clues), "solution": "/".join(rows)}, rows


def obeys(clues, rows):
    """Whether rows are a full grid that keeps the clues: every pair of cells is compared."""
    clues, size = clues.split("/"), len(clues.split("/"))
    if len(rows) != size or any(len(row) != size or set(row) - set("123456789"[:size]) for row in rows):
        return False
    height, width = BOXES[size]
    cells = [(r, c, r // height * height + c // width, rows[r][c]) for r in range(size) for c in range(size)]
    clash = any(
        a[3] == b[3] and (a[0] == b[0] or a[1] == b[1] or a[2] == b[2]) for a, b in itertools.combinations(cells, 2)
    )
    return not clash and all(clues[r][c] in (".", d) for r, c, _, d in cells)


def ruled(rows, bar, line, cross):
    """Rows with bars between boxes and lines between bands, for the grid's size; odd sizes have none."""
    size = len(rows)
    height, width = BOXES.get(size, (size, size))
    drawn = []
    for number, row in enumerate(rows):
        if number and number % height == 0:
            drawn.append(cross.join(line * (2 * width) for _ in range(-(-len(row) // width))))
        drawn.append(f" {bar} ".join(" ".join(row[i : i + width]) for i in range(0, len(row), width)))
    return "\n".join(drawn)


def boxed(rows):
    lines = [f"║ {' │ '.join(row)} ║" for row in rows]
    edge = "═══╪" * (len(rows[0]) - 1) + "═══"
    return "\n".join([f"╔{edge}╗", *lines, f"╚{edge}╝"])


def markdown(rows):
    first, *others = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([first, "|" + ":-:|" * len(rows[0]), *others])


def matrix(rows):
    body = " \\\\\n".join(" & ".join(row) for row in rows)
    return rf"\begin{{bmatrix}} {body} \end{{bmatrix}}"


LAYOUTS = (
    "/".join,
    " / ".join,
    "\n".join,
    " ".join,
    ", ".join,
    lambda rows: "\n".join(" ".join(row) for row in rows),
    lambda rows: "\n".join(", ".join(row) for row in rows),
    lambda rows: ",\n".join(",".join(row) for row in rows),
    lambda rows: json.dumps([list(row) for row in rows]),
    lambda rows: "[" + ",\n ".join("[" + ", ".join(row) + "]" for row in rows) + "]",
    lambda rows: ruled(rows, "|", "-", "+"),
    lambda rows: ruled(rows, "│", "─", "┼"),
    boxed,
    markdown,
    matrix,
)
ONE_LINE = ("".join, lambda rows: " ".join("".join(rows)), lambda rows: ",".join("".join(rows)))
FRAMES = ("{}", "\n{}\n", "```\n{}\n```", "```text\n{}\n```", "**{}**", "$${}$$")


def sudoku_answer(rng, rows):
    """A grid in some layout; one line of cells only where the rows have one length that fits."""
    square = all(len(row) == len(rows) for row in rows)
    layout = rng.choice((*LAYOUTS, *ONE_LINE) if square else LAYOUTS)
    frame = rng.choice(FRAMES)
    return ("{}" if frame == "**{}**" and layout in (markdown, boxed) else frame).format(layout(rows))


def sudoku_mistake(rng, rows):
    """Rows with a cell changed, two rows or cells exchanged, or a row or cell too many or too few."""
    rows, size, kind = list(rows), len(rows), rng.randrange(6)
    r, c = rng.randrange(size), rng.randrange(size)
    if kind == 0:
        rows[r] = rows[r][:c] + rng.choice("0123456789.") + rows[r][c + 1 :]
    elif kind == 1:
        other = rng.randrange(size)
        rows[r], rows[other] = rows[other], rows[r]
    elif kind == 2:
        cells = list(rows[r])
        rng.shuffle(cells)
        rows[r] = "".join(cells)
    elif kind == 3:
        rows = rows[:r] + rows[r + 1 :]
    elif kind == 4:
        rows[r] += rng.choice("123456789")
    else:
        rows = [*rows, rng.choice(rows)]
    return rows
