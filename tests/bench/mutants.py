"""Mutation testing: how many small changes of the code the unit tests notice.

    make mutants
    python -m tests.bench.mutants --write

Reads what mutmut left in the folder ``mutants``. Prints a Markdown table; ``--write`` writes the figures and
puts the table into its document.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.bench.marked_document import with_passage, write_measured
from tests.support.peers import ROOT

FOLDER = ROOT / "mutants"
DOCUMENT = ROOT / "docs" / "mutants.md"
FIGURES = ROOT / "docs" / "mutants.json"
COMMAND = "python -m tests.bench.mutants"

OUTCOMES: Final[dict[int | None, str]] = {
    1: "noticed",
    3: "noticed",
    0: "survived",
    5: "without a test",
    33: "without a test",
    None: "not tried",
}
"""Outcome by the exit code of pytest, or mutmut's own code; any other is a time limit that was passed."""
LATE: Final = "too slow"
COLUMNS: Final = ("noticed", LATE, "survived", "without a test", "not tried")


def outcomes(codes: Mapping[str, int | None]) -> dict[str, str]:
    """Outcome of each mutant of a module, by its name without those of the module and of mutmut."""
    return {plain_name(name): OUTCOMES.get(code, LATE) for name, code in codes.items()}


def plain_name(mutant: str) -> str:
    """Function and number of a mutant, such as ``Queue.take 12`` of ``a.b.xǁQueueǁtake__mutmut_12``."""
    name, number = mutant.rsplit("__mutmut_", 1)
    name = name.rsplit(".", 1)[-1]
    method = re.fullmatch(r"xǁ(.+)ǁ(.+)", name)
    return f"{method[1]}.{method[2]} {number}" if method else f"{name.removeprefix('x_')} {number}"


def measure(folder: Path) -> dict[str, Any]:
    """Number of mutants of each module by outcome, and the survivors by name."""
    modules = []
    for meta in sorted(folder.rglob("*.py.meta")):
        codes = json.loads(meta.read_text("utf-8"))["exit_code_by_key"]
        if not codes:
            continue
        found = outcomes(codes)
        counts = Counter(found.values())
        modules.append(
            {
                "module": str(meta.relative_to(folder)).removesuffix(".meta"),
                **{column: counts[column] for column in COLUMNS},
                "survivors": sorted(name for name, outcome in found.items() if outcome == "survived"),
            }
        )
    return {"modules": modules}


def table(found: dict[str, Any]) -> list[str]:
    """Lines of the Markdown table."""
    rows = [(f"`{row['module']}`", *(row[column] for column in COLUMNS)) for row in found["modules"]]
    sums = ("together", *(sum(row[column] for row in found["modules"]) for column in COLUMNS))
    return [
        f"| module | {' | '.join(COLUMNS)} |",
        "|---|" + "---|" * len(COLUMNS),
        *(f"| {' | '.join(map(str, row))} |" for row in (*rows, sums)),
    ]


def document(text: str, found: dict[str, Any]) -> str:
    """Text of the document with the table."""
    return with_passage(text, COMMAND, table(found))


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    found = measure(FOLDER)
    print("\n".join(table(found)))
    for row in found["modules"]:
        for name in row["survivors"]:
            print(f"survived: {row['module']}: {name}")
    if given.write:
        write_measured(found, FIGURES, DOCUMENT, document)


if __name__ == "__main__":
    main()
