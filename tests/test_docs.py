"""What the documentation shows works: its code blocks, its examples and its links."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def python_blocks(page: Path) -> list[tuple[int, str]]:
    """Return the first line number and the text of each Python block of a page."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, m.start(2)) + 1, m.group(2)) for m in FENCE.finditer(text) if m.group(1) == "python"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=relative)
def test_code_blocks_run_in_order(page: Path) -> None:
    shared: dict[str, object] = {"__name__": f"docs_{page.stem}"}
    for line, code in python_blocks(page):
        # Blank lines in front make line numbers in a traceback those of the page.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), shared)


@pytest.mark.parametrize("example", EXAMPLES, ids=relative)
def test_example_runs(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{relative(page)} links to {target}"


def test_every_guide_and_example_is_listed_in_the_index() -> None:
    listed = set(LINK.findall((ROOT / "docs" / "index.md").read_text(encoding="utf-8")))
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages | {f"examples/{example.name}" for example in EXAMPLES} <= listed


def test_readme_shows_a_ten_line_example_and_both_commands_on_the_first_screen() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    _, code = python_blocks(ROOT / "README.md")[0]
    statements = [line for line in code.splitlines() if line.strip()]
    assert len(statements) <= 10
    assert {"value_and_grad", "hvp", "optimize"} <= set(re.findall(r"\w+", code))
    commands = [match.group(2).strip() for match in FENCE.finditer(text) if match.group(1) == "sh"]
    assert len(commands) == 2 and all("\n" not in command for command in commands)
    assert "python -m numgrad demo" in commands[0] and "python -m pytest" in commands[1]
    assert text.index(commands[1]) < text.index("## What it does\n")
