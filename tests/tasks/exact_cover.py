"""Sudoku as an exact cover, solved by Knuth's Algorithm X: an oracle that shares nothing with the task's own solver."""

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}


def sudoku_solutions(cells, limit=2):
    """Up to ``limit`` solutions of clues with dots as blanks."""
    size = round(len(cells) ** 0.5)
    height, width = BOXES[size]
    rows = {}
    for place, clue in enumerate(cells):
        r, c = divmod(place, size)
        box = r // height, c // width
        for digit in range(1, size + 1) if clue == "." else (int(clue),):
            rows[place, digit] = [("cell", place), ("row", r, digit), ("column", c, digit), ("box", box, digit)]
    columns = {("cell", place): set() for place in range(size * size)}
    columns |= {(kind, i, d): set() for kind in ("row", "column") for i in range(size) for d in range(1, size + 1)}
    for bands in range(size // height):
        for stack in range(size // width):
            columns |= {("box", (bands, stack), d): set() for d in range(1, size + 1)}
    for row, covered in rows.items():
        for column in covered:
            columns[column].add(row)
    found = []
    cover(columns, rows, [], found, limit)
    return ["".join(str(digit) for _, digit in sorted(chosen)) for chosen in found]


def cover(columns, rows, chosen, found, limit):
    if not columns:
        found.append(list(chosen))
        return
    tightest = min(columns, key=lambda column: len(columns[column]))
    for row in list(columns[tightest]):
        chosen.append(row)
        removed = []
        for column in rows[row]:
            for other in columns[column]:
                for shared in rows[other]:
                    if shared != column:
                        columns[shared].discard(other)
            removed.append(columns.pop(column))
        cover(columns, rows, chosen, found, limit)
        for column in reversed(rows[row]):
            columns[column] = removed.pop()
            for other in columns[column]:
                for shared in rows[other]:
                    if shared != column:
                        columns[shared].add(other)
        chosen.pop()
        if len(found) >= limit:
            return
