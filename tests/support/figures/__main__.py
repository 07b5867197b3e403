"""Write every figure of the documents anew: ``python -m tests.support.figures``, or ``make figures``."""

from __future__ import annotations

import sys

from tests.bench import report
from tests.support.figures.passage import Mistake, corrected, mistakes
from tests.support.figures.registry import passages_by_document
from tests.support.peers import ROOT


def main() -> int:
    """Write docs/benchmarks.md and the numbers of every passage; say what changed."""
    code = report.main(())
    for document, passages in passages_by_document().items():
        path = ROOT / document
        text = path.read_text(encoding="utf-8")
        found = list(mistakes(text, passages))
        missing = [each for each in found if isinstance(each, LookupError)]
        for error in missing:
            print(f"error: {error}", file=sys.stderr)
        if missing:
            code = 1
            continue
        for each in found:
            if isinstance(each, Mistake):
                print(f"{each.document}:{each.line}: {each.said} is now {each.right.text}")
        if found:
            path.write_text(corrected(text, passages), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
