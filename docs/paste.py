"""Paste what commands print into a markdown page, or check that the page still says what they print.

    python docs/paste.py docs/analysis.md            # write the outputs
    python docs/paste.py --check docs/analysis.md    # exit code 1 and a diff where a command prints something else

In a block fenced as ``console`` (by a longer fence where an output has fences of its own) every line that begins
with ``$ bench`` is a command; what follows, up to the next command or the end of the block, is its output on standard
output, and its error with the exit code when that is not 0.  ``$OUT`` in a command is a folder that is empty at the
beginning of the page and gone at its end.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^(`{3,})console\n(.*?)^\1$", re.M | re.S)
PLAIN = {"COLUMNS": "100", "LINES": "40", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
SECONDS = 300  # for one command


def output(command: str, scratch: Path) -> str:
    """What a command prints, the scratch folder written as $OUT; ValueError for anything but bench."""
    name, *words = shlex.split(command.replace("$OUT", str(scratch)))
    if name != "bench":
        raise ValueError(f"only bench is run, not: {command}")
    # An empty cache: what was measured earlier on this machine is no part of a page.
    env = {**os.environ, **PLAIN, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(scratch / "cache")}
    run = [sys.executable, "-m", "bench", *words]
    done = subprocess.run(run, cwd=ROOT, env=env, capture_output=True, text=True, timeout=SECONDS)
    text = done.stdout if done.returncode == 0 else f"{done.stdout}{done.stderr}(exit code {done.returncode})\n"
    lines = [line.rstrip() for line in text.replace(str(scratch), "$OUT").splitlines()]
    return "".join(f"{line}\n" for line in lines)


def refreshed(page: str) -> str:
    """The page with every command's present output; blocks are worked on in order, in one scratch folder."""
    with tempfile.TemporaryDirectory() as folder:

        def block(match: re.Match[str]) -> str:
            commands = [line for line in match[2].splitlines() if line.startswith("$ ")]
            parts = [f"{line}\n{output(line[2:], Path(folder))}" for line in commands]
            text = "\n".join(parts)
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("^`{3,}", text, re.M)), default=0))
            return f"{fence}console\n{text}{fence}"

        return BLOCK.sub(block, page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("pages", nargs="+", type=Path)
    args = parser.parse_args()
    stale = False
    for path in args.pages:
        old = path.read_text()
        new = refreshed(old)
        if args.check:
            stale |= old != new
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "page", "printed"))
        else:
            path.write_text(new)
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
