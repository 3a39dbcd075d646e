"""Every clause of the gradient contract has a test that names it, or is a documented deliberate difference."""

from __future__ import annotations

import sys

import pytest

from tests.contract import clauses_in, clauses_of_tests, table

# How many clauses each section has.
SECTIONS = {"A": 8, "B": 9, "C": 8, "D": 7, "E": 12, "F": 5, "G": 10, "H": 7, "I": 9, "J": 10, "K": 16, "L": 4, "M": 9,
            "N": 12, "O": 27, "P": 8, "Q": 3, "R": 2, "S": 3, "U": 12}
CLAUSES = [f"{letter}{k}" for letter, count in SECTIONS.items() for k in range(1, count + 1)]

VARIABLES = "variables come with tapes"
CUSTOM = "custom gradients are tested where they live"
TAPES = "tapes and forward accumulators are built on this"
PENDING = {
    **dict.fromkeys([f"O{k}" for k in range(1, 28)] + [f"P{k}" for k in range(1, 9)], TAPES),
    **dict.fromkeys(["J8", "J10", "S3", "U3", "U5", "U6"], TAPES),
    **dict.fromkeys([f"N{k}" for k in range(1, 13)] + ["U8"], CUSTOM),
    "B3": VARIABLES,
    "J6": VARIABLES,
}


def test_the_page_lists_every_clause() -> None:
    """The list of clauses in docs/contract.md is complete and in order, and its differences are differences of
    clauses."""
    assert list(table("Clauses")) == CLAUSES
    differences = table("Deliberate differences")
    assert set(differences) <= set(CLAUSES) and list(differences) == sorted(differences, key=CLAUSES.index)
    assert all(len(row) == 2 for row in differences.values()), "a difference says what and why"


def test_no_clause_is_missing() -> None:
    """Clauses without a test and without a documented difference are those that wait for something named."""
    tested, differences = clauses_of_tests(), table("Deliberate differences")
    assert set(tested) <= set(CLAUSES), "a test names a clause that does not exist"
    missing = [c for c in CLAUSES if c not in tested and c not in differences]
    waiting = [c for c in missing if c in PENDING]
    lines = [f"clauses covered / total: {len(CLAUSES) - len(missing)} / {len(CLAUSES)} ({len(tested)} by tests, "
             f"{len(set(differences) - set(tested))} as deliberate differences alone)"]
    for reason in dict.fromkeys(PENDING[c] for c in waiting):
        lines.append(f"waiting, {reason}: {' '.join(c for c in waiting if PENDING[c] == reason)}")
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert [c for c in missing if c not in PENDING] == []


@pytest.mark.parametrize("docstring, found", [
    ("A1: one.", {"A1"}), ("C4, E9 to E11: some.", {"C4", "E9", "E10", "E11"}), ("No clause here: A1.", set()),
    ("A1 is meant.", set()), ("A1, and more: text", set()), ("U10, R1:\n    text", {"U10", "R1"}),
])
def test_how_docstrings_name_clauses(docstring: str, found: set[str]) -> None:
    """Ids stand first, before a colon, and nothing else does."""
    assert clauses_in(docstring) == found
