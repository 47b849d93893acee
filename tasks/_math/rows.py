r"""Math problems from data files: rows of the Hendrycks MATH family or of GSM8K, and verl's format as UFT ships it.

Problem: ``{"kind": "row", "text", "answer", "steps", "ending", "level", "subject"}`` and ``"prompt"`` where the row has
one of its own.  ``steps`` are pieces of the published solution; the ``ending`` starts with the piece that boxes an
answer, so no prefix shows it, and states the gold answer in the answer tag.  Together they hold the whole solution.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from bench.plan.cells import is_missing, text_cell
from bench.types import Demonstration, Verdict
from tasks._math import gsm8k, number
from tasks._math.compare import answer_fault, compare_answers
from tasks._math.text import MAX_ANSWER, answer_of, last_boxed
from tasks._math.wording import ask_differently, ask_question, worded_demonstration
from tasks.common import hints_of_row

FORMAT_REWARD = 0.1
PIECE_END = re.compile(r"[.?!]\$?[ \t]+|\n+")
BOX_START = re.compile(r"\\(?:boxed|fbox)(?![a-z])")
LEVEL = re.compile(r"(?:Level )?([1-9])(?:\.0)?")
THINK_END = " </think>"
GUESSES = range(21)  # goal-blind answers


def from_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Problem of a row; ValueError names the column that is missing or broken."""
    if is_missing(row.get("reward_model")):
        problem = from_hendrycks(gsm8k.renamed(row))
    else:
        problem = from_verl(row)
    fault = answer_fault(problem["answer"])
    if fault or len(problem["answer"]) > MAX_ANSWER:
        raise ValueError(f"{problem.pop('source')}: unreadable gold answer: {fault or f'over {MAX_ANSWER} characters'}")
    del problem["source"]
    level = LEVEL.fullmatch(str(row.get("level", "")))
    subject = next((row[name] for name in ("type", "subject") if not is_missing(row.get(name))), None)
    problem |= {"level": int(level[1]) if level else None, "subject": None if subject is None else str(subject)}
    return {"kind": "row", **problem}


def from_hendrycks(row: Mapping[str, Any]) -> dict[str, Any]:
    text, solution = text_cell(row, "problem"), text_cell(row, "solution")
    gold, source = last_boxed(solution), "column 'solution'"
    if gold is None or not gold.strip():
        stated = gsm8k.stated_answer(solution)
        if not is_missing(row.get("answer")):
            gold, source = gsm8k.gold_text(row["answer"], "answer"), "column 'answer'"
        elif stated is not None:
            gold = gsm8k.gold_text(solution, "solution")
        else:
            also = ", and column 'answer' is missing" if "answer" in row else ""
            raise ValueError(f"column 'solution' has no readable \\boxed{{}} answer{also}")
        solution = gsm8k.rationale(solution, gold, "solution")
    steps, tail = cut_at_box(solution_pieces(solution))
    gold = gold.strip()
    return {"text": text, "answer": gold, "steps": steps, "ending": tail + boxed_ending(gold), "source": source}


def from_verl(row: Mapping[str, Any]) -> dict[str, Any]:
    reward_model = row["reward_model"]
    truth = reward_model.get("ground_truth") if isinstance(reward_model, Mapping) else None
    target = truth.get("target") if isinstance(truth, Mapping) else truth
    answer, hints = text_cell(row, "answer"), hints_of_row(row)
    if not hints or not answer.startswith("".join(hints)):
        hints = solution_pieces(answer.partition(THINK_END)[0])
    gold = last_boxed("".join(hints)) if is_missing(target) else gsm8k.gold_text(target, "reward_model")
    if gold is None or not gold.strip():
        raise ValueError(
            "column 'reward_model' has no 'ground_truth', and column 'answer' no readable \\boxed{} answer"
        )
    gold = gold.strip()
    if THINK_END not in answer and last_boxed(answer) is None:
        answer = gsm8k.rationale(answer, gold, "answer")
        hints = hints if answer.startswith("".join(hints)) else solution_pieces(answer)
    steps, _ = cut_at_box(hints)
    ending = answer.removeprefix("".join(steps))
    if "<answer>" not in ending:
        ending = ending.removesuffix(THINK_END) + boxed_ending(gold)
    problem: dict[str, Any] = {"answer": gold, "steps": steps, "ending": ending, "source": "column 'reward_model'"}
    asked = truth if isinstance(truth, Mapping) and not is_missing(truth.get("question")) else row
    if not is_missing(row.get("question")):
        problem["prompt"] = text_cell(row, "question")
    return {"text": text_cell(asked, "question"), **problem}


def boxed_ending(gold: str) -> str:
    return f"{THINK_END}\n<answer> \\boxed{{{gold}}} </answer>"


def solution_pieces(solution: str) -> list[str]:
    """Sentences and lines with the blanks after them; together they are the solution."""
    borders = [0, *(match.end() for match in PIECE_END.finditer(solution)), len(solution)]
    return [solution[a:b] for a, b in itertools.pairwise(borders) if a < b]


def cut_at_box(parts: list[str]) -> tuple[list[str], str]:
    """The pieces before the first box, and the rest as one text; a box in the first piece cuts that piece."""
    place = next((i for i, piece in enumerate(parts) if BOX_START.search(piece)), None)
    if place is None:
        return parts, ""
    if place == 0:
        box = BOX_START.search(parts[0])
        assert box is not None
        head = parts[0][: box.start()]
        return ([head] if head.strip() else []), "".join(parts).removeprefix(head if head.strip() else "")
    return parts[:place], "".join(parts[place:])


# --- what a task does with a row ---------------------------------------------------------------------------------


def key(problem: Mapping[str, Any]) -> str:
    """The problem's text; blanks and line breaks do not matter."""
    return "text:" + " ".join(problem["text"].split())


def prompt(problem: Mapping[str, Any], template: str) -> str:
    if template == "compact":
        return f"math {problem['text']}\n"
    own = problem.get("prompt") if template == "plain" else None
    return str(own or ask_question(problem["text"], template))


def reword(problem: Mapping[str, Any], template: str) -> str:
    """The row's own text with other words around it."""
    return f"math solve: {problem['text']}\n" if template == "compact" else ask_differently(problem["text"], template)


def demonstrate(problem: Mapping[str, Any], template: str) -> Demonstration:
    steps, ending = problem["steps"], problem["ending"]
    if template != "compact":
        return worded_demonstration(steps, ending, template)
    tail = ending.rpartition(THINK_END)[0]
    return Demonstration(tuple(steps), f"{tail}\n<answer>\\boxed{{{problem['answer']}}}</answer>")


def verify(problem: Mapping[str, Any], text: str) -> Verdict:
    try:
        answer = answer_of(text)
    except ValueError as error:
        return Verdict(False, FORMAT_REWARD, f"unreadable answer: {error}")
    if answer is None:
        return Verdict(False, 0.0, "neither <answer>...</answer> nor \\boxed{...} found")
    equal, why = compare_answers(problem["answer"], answer)
    return Verdict(equal, 1.0 if equal else FORMAT_REWARD, f"correct ({why})" if equal else why)


def chance(problem: Mapping[str, Any]) -> float:
    """Exact probability that ``practice`` is right, 0 for most rows."""
    gold = number.read_number(problem["answer"])
    right = [guess for guess in GUESSES if gold and number.same_number(gold, number.Number(Fraction(guess)))]
    return len(right) / len(GUESSES)


def practice(rng: random.Random, problem: Mapping[str, Any]) -> str:
    """A small number, whatever the problem says."""
    return f"<answer>\\boxed{{{rng.choice(GUESSES)}}}</answer>"
