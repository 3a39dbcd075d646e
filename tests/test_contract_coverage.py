"""Every clause of the gradient contract has a test that names it, and every deliberate difference a reason."""

from __future__ import annotations

import sys

import pytest

from tests.contract import clauses_in, clauses_of_tests, table

# How many clauses each section has.
SECTIONS = {"A": 8, "B": 9, "C": 8, "D": 7, "E": 12, "F": 5, "G": 10, "H": 7, "I": 9, "J": 10, "K": 16, "L": 4, "M": 9,
            "N": 12, "O": 27, "P": 8, "Q": 3, "R": 2, "S": 3, "U": 12}
CLAUSES = [f"{letter}{k}" for letter, count in SECTIONS.items() for k in range(1, count + 1)]


def test_the_page_lists_every_clause() -> None:
    """The list of clauses in docs/contract.md is complete and in order, and its differences are differences of
    clauses."""
    assert list(table("Clauses")) == CLAUSES
    differences = table("Deliberate differences")
    assert set(differences) <= set(CLAUSES) and list(differences) == sorted(differences, key=CLAUSES.index)
    assert all(len(row) == 2 for row in differences.values()), "a difference says what and why"


def test_no_clause_is_missing() -> None:
    """Every clause has a test that names it, those where numgrad differs on purpose as well."""
    tested, differences = clauses_of_tests(), table("Deliberate differences")
    assert set(tested) <= set(CLAUSES), "a test names a clause that does not exist"
    missing = [c for c in CLAUSES if c not in tested]
    sys.stdout.write(f"\nclauses covered / total: {len(CLAUSES) - len(missing)} / {len(CLAUSES)} "
                     f"({len(differences)} as deliberate differences); missing: {len(missing)}\n")
    assert missing == []


@pytest.mark.parametrize("docstring, found", [
    ("A1: one.", {"A1"}), ("C4, E9 to E11: some.", {"C4", "E9", "E10", "E11"}), ("No clause here: A1.", set()),
    ("A1 is meant.", set()), ("A1, and more: text", set()), ("U10, R1:\n    text", {"U10", "R1"}),
])
def test_how_docstrings_name_clauses(docstring: str, found: set[str]) -> None:
    """Ids stand first, before a colon, and nothing else does."""
    assert clauses_in(docstring) == found
