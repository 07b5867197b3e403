"""Figures of the documents: where each number of README.md and docs comes from.

Commands wrote the numbers as JSON (``metrics.json`` of the bundles, ``docs/benchmarks``), or they are counts
of something in the code. A :class:`~tests.support.figures.passage.Passage` gives the form of a passage,
with ``{}`` for each number, and its sources. ``python -m tests.support.figures`` (``make figures``) writes
every number anew; ``tests/unit/test_figures.py`` compares them.
"""
