"""Passages about speed: what README.md and docs say of the newest run of ``make bench``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.support.figures.passage import Figure, Passage
from tests.support.figures.sources import decimals, measured, row, run_figure, runs, word

_FAMILIES = {
    "convnet": "convnet (EfficientNet-Lite0, the bundles)",
    "biomedclip": "biomedclip",
    "densenet": "densenet",
    "crossattention": "crossattention",
    "concatenation": "concatenation",
}
_TURNAROUND, _START = "turnaround", "start"


def passages() -> Iterator[Passage]:
    """Passages whose numbers stand in docs/benchmarks."""
    yield from _readme()
    yield from _explanations()
    yield from _families()
    yield from _searches()
    yield from _page()


def _readme() -> Iterator[Passage]:
    yield Passage(
        "README.md",
        "On {} cores (load average {} at the start), films received per second",
        (run_figure("cores", "receive", word), run_figure("load", "receive")),
    )
    for size in ("10 MB", "0.5 MB"):
        for senders in (1, 4, 16):
            name = f"{size}, {senders} sender{'s' if senders > 1 else ''}"
            yield Passage(
                "README.md",
                f"| {size}, {senders} | {{}} | {{}} | {{}} |",
                (
                    measured("receive", name, peer="Orthanc"),
                    measured("receive", name, "peer_value", peer="Orthanc"),
                    measured("receive", name, "peer_value", peer="storescp"),
                ),
            )
    reported = partial(measured, _TURNAROUND, form=decimals(2))
    yield Passage(
        "README.md",
        """{} s for a film of 0.5 MB and {} s for one of 10 MB, and 99 of 100 within {} and {} s ({} films
        each;""",
        (
            reported("release to report, 0.5 MB, p50"),
            reported("release to report, 10 MB, p50"),
            reported("release to report, 0.5 MB, p99"),
            reported("release to report, 10 MB, p99"),
            measured(_TURNAROUND, "release to report, 10 MB, p50", "n"),
        ),
    )
    sustained = measured(_TURNAROUND, "receive, read and deliver, 0.5 MB", form=word)
    yield Passage(
        "README.md",
        "{} studies a second are received, read and delivered. `analyze` of one film ends after {} s.",
        (
            Figure(sustained.text.capitalize(), sustained.source),
            measured("commands", "analyze one film of 10 MB, onnx, until it ends", form=decimals(1)),
        ),
    )
    memory = row(_START, "peak memory of the worker, 10 MB, torch")
    yield Passage(
        "README.md",
        "Peak memory: {} MiB an SCP process, {} MiB the worker in the light runtime, {} GiB in torch.",
        (
            measured("receive", "peak memory of a receiver, 0.5 MB, 16 senders"),
            measured(_START, "peak memory of the worker, 10 MB, onnx"),
            Figure(f"{memory[0].value / 1024:.1f}", f"{memory[1]}: {_START}, {memory[0].name}, value"),
        ),
    )


def _explanations() -> Iterator[Passage]:
    document = "docs/explanations.md"

    def beside(size: str) -> tuple[Figure, Figure, Figure]:
        name = f"8 heat maps and their check, {size}"
        ratio, value, peer = (measured("explain", name, of) for of in ("ratio", "value", "peer_value"))
        return ratio, value, peer

    yield Passage(
        document,
        """on {} cores {} of the time for a film of 256 x 256 pixels ({} beside {} ms) and {} for one of
        2048 x 2048 ({} beside {} ms).""",
        (run_figure("cores", "explain", word), *beside("256 x 256"), *beside("2048 x 2048")),
    )
    yield Passage(
        document,
        "prints {} s for one map by Integrated Gradients, {} s for eight, and {} s for eight by occlusion,",
        tuple(
            measured("explain", name)
            for name in ("1 heat map by ig", "8 heat maps by ig", "8 heat maps by occlusion")
        ),
    )


def _families() -> Iterator[Passage]:
    for family, said in _FAMILIES.items():
        yield Passage(
            "docs/models.md",
            f"| {said} | {{}} | {{}} | {{}} | {{}} | {{}} | {{}} |",
            tuple(
                measured("models", f"{family}, {what}, batch of 8", of)
                for what in ("torch", "training")
                for of in ("value", "peer_value", "ratio")
            ),
        )


def _searches() -> Iterator[Passage]:
    """Rows of docs/retrieval.md, for each size of the newest run that has searches."""
    run = next(run for run in runs() if any(each.group == "retrieval" for each in run.rows))
    names = [each.name for each in run.rows if each.group == "retrieval"]
    for name in names:
        if not name.endswith(", a query"):
            continue
        search = name.removesuffix(", a query")
        engine, _, cases = search.partition(" search among ")
        queried = (measured("retrieval", name), measured("retrieval", f"{search}, recall at 10"))
        building = measured("retrieval", f"{search}, building")
        built = "" if engine == "exact" else "{} s "  # the exact engine builds nothing
        yield Passage(
            "docs/retrieval.md",
            f"| {cases.removesuffix(' cases')} | {engine} | {built}| {{}} ms | {{}} |",
            (building, *queried) if built else queried,
        )


def _page() -> Iterator[Passage]:
    worklist = "worklist of 100,000 studies"
    yield Passage(
        "docs/reading-room.md",
        """It came in {} ms; from the index alone the first page takes {} ms, the hundredth {} ms, a search
        that finds nothing {} ms.""",
        tuple(
            measured("web", f"{worklist}, {name}")
            for name in ("first page", "index, first", "index, hundredth", "index, no such words")
        ),
    )
    yield Passage(
        "docs/reading-room.md",
        """has drawn it: {} s (median of {}) on the loopback, and {} s for the first film after the start of
        the page.""",
        (
            measured("viewer", "click to later films of 10 MB drawn", form=decimals(2)),
            measured("viewer", "click to later films of 10 MB drawn", "n", form=word),
            measured("viewer", "click to first film of 10 MB drawn", form=decimals(2)),
        ),
    )
    searched = "QIDO-RS among 100,000 studies"
    yield Passage(
        "docs/dicomweb.md",
        "({} ms the first page, {} ms a name that nobody has, {} ms a series that is not there, on {} cores)",
        (
            measured("web", f"{searched}, first (100 found)"),
            measured("web", f"{searched}, no such name (0 found)"),
            measured("web", f"{searched}, no such series (0 found)"),
            run_figure("cores", "web", word),
        ),
    )
