r"""Who is what according to an answer, and which names people can have.

An answer is cut into lines and parts, and every part has to say the kind of one person, or to open a list of knights or
knaves.  Marks that say nothing (bold print, quotes, bullets, LaTeX fonts, tables) come off first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from tasks._answers.markup import unmarked, unwrapped, without_fonts

MAX_NAME = 60  # characters
RESERVED = {"and", "or", "not", "is", "knight", "knights", "knave", "knaves", "none"}  # what no name may hold
ALIKE = str.maketrans({"’": "'", "ʼ": "'", "‐": "-", "‑": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " "})
PERSON = re.compile(r"\w+(?:[ '-]\w+)*")

KIND = r"(?i:(knight|knave))"
BULLET = r"(?:(?:\([0-9]+\)|[0-9]+[.)]|[-*+•])\s*)?"
# Words of whatever could be a name: no punctuation but apostrophes, hyphens and underscores.  The fewest that fit.
NAME = r"({word}(?:\s+{word})*?)".format(word=r"[^\s!-&(-,./:-@\[-^`{-~“”„«»…–—→•]+")
LINK = r"(?:\s*(?:[:=]|->|→)\s*|\s+[-–—]\s+|\s+)(?:is\s+(?:a\s+)?|IS\s+(?:A\s+)?|a\s+)?"
SEPARATOR = re.compile(r"[,;](?:\s+and\s+)?|\s+and\s+|(?:(?<=(?i:knight))|(?<=(?i:knave)))\.\s+(?:and\s+)?", re.ASCII)
WITH_KIND = re.compile(BULLET + NAME + LINK + KIND + r"\.?", re.ASCII)
ALONE = re.compile(BULLET + NAME + r"\.?", re.ASCII)
OPENED = re.compile(BULLET + NAME + r"\s*[:=]", re.ASCII)
GROUP = re.compile(BULLET + r"(?i:(knight|knave)s?)\s*[:=]\s*(.*)", re.ASCII)
ONLY_KIND = re.compile(BULLET + r"(?:a\s+)?" + KIND + r"\.?", re.ASCII)
QUOTED = re.compile(r'"([^"“”\n]+)"|“([^"“”\n]+)”')
BLANKS = re.compile(r"\\(?:[,;:]|q?quad(?![A-Za-z]))")
RULE = re.compile(r"[|:\s-]*-[|:\s-]*")  # the line of a table below its head
HEADS = {  # words over the columns of a table
    *("", "#", "no", "no.", "number", "name", "names", "person", "people", "islander", "inhabitant", "character"),
    *("individual", "speaker", "kind", "type", "role", "identity", "status", "answer", "is", "is a", "knight or knave"),
    *("knight/knave", "knight / knave"),
}


def plain_name(name: str) -> str:
    """A name as it is compared: accents composed, apostrophes and hyphens straight, single blanks."""
    return " ".join(unicodedata.normalize("NFC", name).translate(ALIKE).split())


def name_fault(name: str) -> str:
    """Why no answer could name a person of this name, empty if one could."""
    plain = plain_name(name)
    if len(plain) > MAX_NAME:
        return f"is longer than {MAX_NAME} characters"
    # Marks of some scripts stay apart from their letters; "\w" does not know them.
    letters = "".join("m" if unicodedata.category(c).startswith("M") else c for c in plain)
    if not PERSON.fullmatch(letters):
        return "is not made of words with single blanks, hyphens or apostrophes between them"
    held = sorted(RESERVED & set(re.split(r"[ '-]", plain.casefold())))
    return f"holds the word '{held[0]}'" if held else ""


def said_kinds(answer: str) -> Iterator[tuple[str, str]]:
    """Name (in its plain spelling) and kind of each part of an answer of bounded length.

    Raises ValueError that quotes a part which does not say who is what.
    """
    group = ""  # the kind that names without a kind have
    waiting = ""  # the name whose kind the next part has to say
    alone = False  # whether the clause has names without a kind
    for part, begins in parts_of(plain_text(answer)):
        alone = alone and not begins
        heading = GROUP.fullmatch(part)
        rest = heading[2] if heading else part
        if waiting:
            if not (kind := ONLY_KIND.fullmatch(part)):
                raise ValueError(f"{part!r} does not say what {waiting} is")
            yield waiting, kind[1].lower()
            waiting = ""
        elif heading and rest in ("", "none", "None"):
            group = heading[1].lower() if not rest else ""
        elif (heading or group) and (named := ALONE.fullmatch(rest)) and not name_fault(named[1]):
            group, alone = heading[1].lower() if heading else group, True
            yield plain_name(named[1]), group
        # "knights: Ada; Otto, Ida: knave" leaves open what Otto is.
        elif not alone and (match := WITH_KIND.fullmatch(part)) and not name_fault(match[1]):
            group = ""
            yield plain_name(match[1]), match[2].lower()
        elif not alone and (match := OPENED.fullmatch(part)) and not name_fault(match[1]):
            group, waiting = "", plain_name(match[1])
        else:
            raise ValueError(f"{part!r} does not say who is what")
    if waiting:
        raise ValueError(f"nothing says what {waiting} is")


def plain_text(answer: str) -> str:
    """An answer without the marks that say nothing, its names in their plain spelling."""
    text = unwrapped(unicodedata.normalize("NFC", answer))
    if "\\" in text:
        text = BLANKS.sub(" ", text.replace("\\\\", "\n"))
        text = without_fonts(text)
    if text.startswith("{") and text.endswith("}") and '"' in text:
        text = text[1:-1].strip().removesuffix(",")  # an object of JSON
    text = QUOTED.sub(lambda quoted: quoted[1] or quoted[2], unmarked(text))
    return text.translate(ALIKE)


def parts_of(text: str) -> Iterator[tuple[str, bool]]:
    """What stands between the separators of a text, and whether a clause begins with it.

    Clauses end with lines, semicolons and full stops.  Blank lines and a comma before a line break do not count.
    """
    lines = list(without_tables([line.strip() for line in text.split("\n") if line.strip()])) or [""]
    for number, line in enumerate(lines, 1):
        whole = line[:-1] if number < len(lines) and line.endswith((",", ";")) else line
        start, begins = 0, True
        for separator in SEPARATOR.finditer(whole):
            yield whole[start : separator.start()].strip(), begins
            start, begins = separator.end(), separator[0].startswith((";", "."))
        yield whole[start:].strip(), begins


def without_tables(lines: Sequence[str]) -> Iterator[str]:
    """Lines with the rows of tables as ``name: kind``; heads of known words and the rules below them are left out."""
    for number, line in enumerate(lines):
        if not line.startswith("|"):
            yield line
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        below = lines[number + 1] if number + 1 < len(lines) else ""
        ruled = RULE.fullmatch(below) and below.strip("|").count("|") == len(cells) - 1
        if RULE.fullmatch(line) or (ruled and HEADS.issuperset(cell.lower() for cell in cells)):
            continue
        if len(cells) == 3 and re.fullmatch(r"\(?[0-9]+[.)]?", cells[0], re.ASCII):
            del cells[0]
        yield ": ".join(cells)
