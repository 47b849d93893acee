"""Knights and knaves in words: claims, the question, and a solution by assumption and contradiction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks._logic.claims import KINDS, Statement, allowed_masks, knight_masks, people_in
from tasks.common import listed

FIRST_NAMES = (
    *("Ada", "Anton", "Bea", "Boris", "Carla", "Cyril", "Dora", "Dennis", "Edith", "Emil", "Flora", "Felix"),
    *("Greta", "Gustav", "Hanna", "Hugo", "Ida", "Ivan", "Judith", "Jonas", "Karin", "Kurt", "Laura", "Leon"),
    *("Marta", "Max", "Nina", "Nils", "Olga", "Otto", "Paula", "Peter", "Rosa", "Robert", "Selma", "Simon"),
    *("Tessa", "Thomas", "Ursula", "Urs", "Vera", "Victor", "Wanda", "Walter"),
)
JOINED = {"and": "{} and {}", "or": "{} or {}", "implies": "if {} then {}", "iff": "{} if and only if {}"}
JOINED["xor"] = "either {} or {} but not both"


def compact_claim(statement: Statement, names: Sequence[str], nested: bool = False) -> str:
    """A statement in the compact format: ``A knight and B knave``, with parentheses around nested connectives."""
    head, *parts = statement
    if head in KINDS:
        return f"{names[parts[0]]} {head}"
    texts = [compact_claim(part, names, True) for part in parts]
    text = f"not {texts[0]}" if head == "not" else f" {head} ".join(texts)
    return f"({text})" if nested else text


def claim_words(statement: Statement, names: Sequence[str], nested: bool = False) -> str:
    """A statement in words: ``Ada is a knight and Otto is not a knave``, with parentheses around nested connectives."""
    head, *parts = statement
    if head in KINDS:
        return f"{names[parts[0]]} is a {head}"
    if head == "not" and parts[0][0] in KINDS:
        return f"{names[parts[0][1]]} is not a {parts[0][0]}"
    texts = [claim_words(part, names, True) for part in parts]
    if head == "not":
        text = f"it is not true that {texts[0]}"
    elif len(texts) == 2:
        text = JOINED[head].format(*texts)
    else:
        text = f" {head} ".join(texts)
    return f"({text})" if nested else text


def claim_sentence(text: str) -> str:
    """A claim on its own, with a capital letter and a full stop; names stay as they are."""
    return (text[0].upper() + text[1:] if text.startswith(("if ", "it ", "either ")) else text) + "."


def kind_lines(names: Sequence[str], kinds: Sequence[bool]) -> list[str]:
    """One line per person: ``(1) Ada is a knight``."""
    return [f"({i}) {name} is a {KINDS[kind]}" for i, (name, kind) in enumerate(zip(names, kinds), 1)]


def claims_question(names: Sequence[str], statements: Sequence[Statement]) -> str:
    """The problem in words, with the ingredients of the public data."""
    claims = " ".join(f'{name} says: "{claim_sentence(claim_words(s, names))}"' for name, s in zip(names, statements))
    return (
        "Everybody on an island is either a knight or a knave. All that a knight says is true, and all that a knave "
        f"says is false. You talk to {listed(names)}. {claims} Who is a knight and who is a knave? Put the reasoning "
        "between <think> and </think> and the kind of each person between <answer> and </answer>, for example <answer> "
        "(1) Zeno is a knave\n(2) Yvette is a knight </answer>."
    )


def other_claims_question(names: Sequence[str], statements: Sequence[Statement]) -> str:
    """The problem in other words, one claim per line."""
    claims = "\n".join(f"- {name} claims that {claim_words(s, names)}." for name, s in zip(names, statements))
    return (
        f"{listed(names)} are of two kinds: knights, who never lie, and knaves, who never tell the truth. Here is what "
        f"they claim.\n{claims}\nFind out the kind of every one of them. Think between <think> and </think>, then give "
        "the kinds between <answer> and </answer>, in the form <answer> (1) Zeno is a knave\n(2) Yvette is a knight "
        "</answer>."
    )


def reasoning(names: Sequence[str], statements: Sequence[Statement]) -> list[str]:
    """Lines that assume kinds one person after another and take back what contradicts a claim."""
    lines: list[str] = []
    try_kinds(names, statements, allowed_masks(statements), knight_masks(len(names))[-1], {}, lines)
    return lines


def try_kinds(
    names: Sequence[str],
    statements: Sequence[Statement],
    allowed: Sequence[int],
    left: int,
    assumed: Mapping[int, bool],
    lines: list[str],
) -> bool:
    """Whether the remaining people can have kinds that fit the assumed ones; adds the reasoning to ``lines``.

    ``allowed`` holds the assignments that each person's claim allows, ``left`` those with the assumed kinds.
    """
    if len(assumed) == len(names):
        return True
    person = next_person(assumed, statements)
    for kind in (True, False):
        people, trial = knight_masks(len(names)), {**assumed, person: kind}
        narrowed = left & (people[person] if kind else people[person] ^ people[-1])
        against = next((other for other in trial if not narrowed & allowed[other]), None)
        judged = person if against is None else against
        claim, content = "claim" if trial[judged] else "false claim", claim_words(statements[judged], names)
        if against is None:
            line = f"Assume {names[person]} is a {KINDS[kind]}. No contradiction is found in their {claim}"
        else:
            line = f"{names[person]} cannot be a {KINDS[kind]}: this contradicts the {claim} of {names[judged]}"
        lines.append(f"{line} that {content}.\n")
        if against is None and try_kinds(names, statements, allowed, narrowed, trial, lines):
            return True
    last, kind = list(assumed.items())[-1]
    lines.append(f"No kind is left for {names[person]}, so {names[last]} is not a {KINDS[kind]}.\n")
    return False


def next_person(assumed: Mapping[int, bool], statements: Sequence[Statement]) -> int:
    """The person to assume next: one whom the claims of those assumed so far mention, the latest claim first."""
    mentioned = [other for person in reversed(list(assumed)) for other in people_in(statements[person])]
    return next(person for person in (*mentioned, *range(len(statements))) if person not in assumed)
