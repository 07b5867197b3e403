"""Golden corpus: result objects of drawn films and invented findings, with every kind of content.

Nothing in it depends on the clock, on the machine or on chance: an object changes only with its writer, or
with a library that draws it (Pillow, ReportLab). ``python -m tests.support.golden`` writes the digests anew
and names the objects that changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from rich.console import Console
from rich.progress import track

from dicom_node.results import codes, uids
from dicom_node.results.document.key_objects import write_rejection
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.equipment import Equipment
from dicom_node.results.report import (
    Change,
    Presence,
    PriorAnswer,
    PriorComparison,
    Refusal,
    Report,
    Source,
)
from dicom_node.results.result_set import write_results
from dicom_node.results.sr.document import Predecessor
from dicom_node.results.sr.feedback import Judgement, write_feedback
from tests.support.factories import chest, film, header
from tests.support.reports import (
    CREATED,
    EQUIPMENT,
    SIMILAR,
    compared,
    finding,
    heat,
    report_of,
    saliency_of,
)
from tests.support.source_headers import SOURCES

DIGESTS = Path(__file__).parents[1] / "golden" / "corpus.json"
ALL = ("sc", "similar", "pdf", "seg", "pm", "pr", "ko")
_OTHER_EQUIPMENT = Equipment(
    uids.device_uid("elsewhere"), "9.9.9", manufacturer="Institut für Röntgen", station_name="RÖNTGEN-2"
)


@contextmanager
def _utc() -> Iterator[None]:
    """Local time is UTC: results carry the time of the place where they are written."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


def _film(**elements: object) -> Dataset:
    return film(rows=96, columns=80, **elements)  # type: ignore[arg-type]


def _contents() -> dict[str, Report]:
    """Reports that differ in what they say."""
    frontal, lateral = _film(), _film(view="LL", SOPInstanceUID="1.2.826.0.1.3680043.8.498.77")
    earlier = _film(StudyInstanceUID="1.2.826.0.1.3680043.8.498.88", StudyDate="20230105")
    plain = report_of(frontal)
    # A hot spot in a corner gives a box at the film's edge, a flat map none.
    corner = finding(saliency=[saliency_of(frontal, row=0.02, column=0.98)], interval=(0.8, 0.83))
    flat = finding(
        saliency=[dataclasses.replace(saliency_of(frontal), values=np.zeros((96, 80), np.float32))]
    )
    coarse = finding(saliency=[dataclasses.replace(saliency_of(frontal), values=heat(12, 10))])
    return {
        "findings": plain,
        "two films": report_of(
            frontal,
            lateral,
            findings=(
                finding(saliency=[saliency_of(frontal), saliency_of(lateral, row=0.3)], interval=(0.7, 0.9)),
                finding("mass", "Mass", certainty=0.97, saliency=[saliency_of(lateral)]),
            ),
        ),
        "box at the edge": report_of(frontal, findings=(corner,)),
        "flat map": report_of(frontal, findings=(flat,)),
        "coarse map": report_of(frontal, findings=(coarse,)),
        "map withheld": report_of(frontal, findings=(finding(withheld="it lies beside the chest"),)),
        "scores alone": report_of(frontal, findings=(finding(certainty=None, score=0.812345),)),
        "certain at both ends": report_of(
            frontal,
            findings=(
                finding(certainty=1.0, interval=(0.99, 1.0)),
                finding("mass", "Mass", certainty=0.0, interval=(0.0, 0.01), presence=Presence.ABSENT),
            ),
        ),
        "normal": report_of(frontal, normality=Presence.PRESENT),
        "undetermined": report_of(frontal, normality=Presence.UNDETERMINED),
        "later revision": report_of(frontal, revision=3),
        "one film left out": report_of(frontal, excluded=[(lateral, "it is inverted")]),
        "view seen on the film": dataclasses.replace(
            plain, sources=(dataclasses.replace(plain.sources[0], view="lateral"),)
        ),
        "similar cases": report_of(frontal, similar=SIMILAR),
        "similar cases that disagree": report_of(
            frontal, similar=dataclasses.replace(SIMILAR, agreement=0.1, disagrees=True)
        ),
        **_changes(frontal, earlier),
        **_shapes(),
        "remarks": dataclasses.replace(
            plain,
            sources=(
                dataclasses.replace(
                    plain.sources[0],
                    remarks=("window 1 was set aside", "the film was turned by 90 degrees"),
                ),
            ),
        ),
        "many of everything": _many(),
        "compared with a prior": compared(plain, earlier),
        "no prior": dataclasses.replace(
            plain, prior=PriorComparison(reason="no earlier chest film within 1095 days")
        ),
        **{
            f"refused: {reason}": report_of(frontal, refusal=Refusal(reason, "The study was not analysed."))
            for reason in codes.REFUSALS
        },
    }


def _changes(now: Dataset, then: Dataset) -> dict[str, Report]:
    """Reports with each change since a prior, with and without calibration, beside a finding in neither."""
    plain = report_of(now)
    sources = (Source(header(then)),)
    found = {}
    for change in Change:
        present = Presence.ABSENT if change is Change.NEW else Presence.PRESENT
        found[f"prior: {change.value}"] = dataclasses.replace(
            plain,
            findings=(
                finding(earlier=PriorAnswer(0.4, 0.3, present, change), interval=(0.8, 0.83)),
                finding("mass", "Mass", certainty=None, earlier=PriorAnswer(None, 0.3, present, change)),
                finding("nodule", "Nodule", certainty=0.01, presence=Presence.ABSENT),
            ),
            prior=PriorComparison(sources),
        )
    return found


def _shapes() -> dict[str, Report]:
    """Reports of films whose pixels are not square, or whose cells end at an odd byte."""
    films = {
        "pixel aspect ratio": _film(PixelAspectRatio=["2", "1"]),
        "pixel spacing that is not square": _film(PixelSpacing=["0.2", "0.1"]),
        "imager pixel spacing alone": _film(ImagerPixelSpacing=["0.15", "0.15"]),
        "imager pixel spacing that is not square": _film(ImagerPixelSpacing=["0.1", "0.2"]),
        "odd number of bytes": film(rows=95, columns=81, bits=8),
        "burned in annotation": _film(BurnedInAnnotation="YES"),
        "two windows": _film(WindowCenter=["2048", "1024"], WindowWidth=["4096", "2048"]),
    }
    return {name: report_of(ds) for name, ds in films.items()}


def _many() -> Report:
    """A report with more findings, films and sentences than any bundle gives."""
    films = [_film(SOPInstanceUID=f"1.2.826.0.1.3680043.8.498.9{number}") for number in range(12)]
    labels = [
        finding(f"label{number}", f"Label {number}", interval=(0.7, 0.9), threshold=number / 60)
        for number in range(60)
    ]
    shown = [saliency_of(ds, row=0.2 + number / 20) for number, ds in enumerate(films[:3])]
    report = report_of(*films, findings=[finding(saliency=shown, interval=(0.7, 0.9)), *labels])
    remarks = tuple(f"remark {number}" for number in range(5))
    return dataclasses.replace(
        report, sources=tuple(dataclasses.replace(source, remarks=remarks) for source in report.sources)
    )


def _coarse(values: np.ndarray) -> np.ndarray:
    """Values in steps of 1/4096: the last bit of an exponential differs from processor to processor."""
    return (np.round(values * 4096) / 4096).astype(np.float32)


def _written(
    report: Report, *, objects: Sequence[str] = ALL, equipment: Equipment = EQUIPMENT, **options: object
) -> Iterator[tuple[str, Dataset]]:
    pixels = {
        source.sop_instance_uid: _coarse(chest(source.header.Rows, source.header.Columns))
        for source in report.sources
    }
    report = dataclasses.replace(
        report,
        findings=tuple(
            dataclasses.replace(
                entry,
                saliency=tuple(
                    dataclasses.replace(drawn, values=_coarse(drawn.values)) for drawn in entry.saliency
                ),
            )
            for entry in report.findings
        ),
    )
    count: dict[str, int] = {}
    for kind, ds in write_results(report, pixels, equipment=equipment, objects=objects, **options):  # type: ignore[arg-type]
        count[kind] = count.get(kind, 0) + 1
        yield f"{kind} {count[kind]}", ds


def corpus() -> Iterator[tuple[str, Dataset]]:
    """Objects by a name that says what is in them.

    Yields
    ------
    tuple
        Name and data set.
    """
    with _utc():
        for name, report in _contents().items():
            for kind, ds in _written(report):
                yield f"{name} / {kind}", ds
        for name, make in SOURCES.items():
            for kind, ds in _written(report_of(make()), objects=("sc", "seg", "pr", "ko")):
                yield f"{name} / {kind}", ds
        yield from _others()


def _others() -> Iterator[tuple[str, Dataset]]:
    """Objects that answer to other objects."""
    report = report_of(_film(), similar=SIMILAR)
    written = dict(_written(report))
    first = written["sr 1"]
    for sr_class in ("enhanced", "comprehensive"):
        for kind, ds in _written(report, objects=("similar",), sr_class=sr_class):
            yield f"{sr_class} / {kind}", ds
    for kinds in (("pm", "seg"), ("seg",)):
        for kind, ds in _written(report, objects=kinds):
            yield f"no pictures, but {' and '.join(kinds)} / {kind}", ds
    for kind, ds in _written(report, equipment=_OTHER_EQUIPMENT):
        yield f"other equipment / {kind}", ds
    after = {
        kind: Predecessor(str(ds.SeriesInstanceUID), str(ds.SOPClassUID), str(ds.SOPInstanceUID))
        for kind, ds in (("sr", first), ("similar", written["similar 1"]))
    }
    revised = report_of(_film(), revision=2, similar=SIMILAR)
    for kind, ds in _written(revised, objects=("similar",), predecessors=after):
        yield f"takes the place of another / {kind}", ds
    for title in (codes.REJECTED_FOR_QUALITY, codes.REJECTED_FOR_SAFETY):
        note = write_rejection(
            list(written.values()),
            title=title,
            reason="wrong patient",
            created=CREATED,
            revision=1,
            equipment=EQUIPMENT,
        )
        yield f"withdrawn: {title.meaning}", note
    said = {
        "Doe^Jane": {
            "cardiomegaly": Judgement("agree", ""),
            "pleural_effusion": Judgement("disagree", "left, small"),
        },
        "Yamada^Tarou=山田^太郎=やまだ^たろう": {
            "cardiomegaly": Judgement("unsure", "心臓の陰影は判断できない。Требуется снимок сбоку."),
            "calcified_granuloma": Judgement("disagree", "Müller: nicht verkalkt\nsiehe Voraufnahme"),
        },
    }
    for reader, judgements in said.items():
        feedback = write_feedback(report, judgements, reader=reader, judged=first, equipment=EQUIPMENT)
        yield f"feedback of {reader}", feedback


def digest(ds: Dataset) -> str:
    """SHA-256 of an object as a Part 10 file, and its size in bytes."""
    data = encoded(ds)
    return f"{hashlib.sha256(data).hexdigest()} {len(data)}"


def read_digests() -> dict[str, str]:
    """Digests by the object's name; none before the first were written."""
    return dict(json.loads(DIGESTS.read_text(encoding="utf-8"))) if DIGESTS.exists() else {}


def main() -> None:
    """Write the digests anew, and name the objects that changed."""
    console = Console(highlight=False, soft_wrap=True)
    before = read_digests()
    found = {name: digest(ds) for name, ds in track(list(corpus()), "objects", console=console)}
    for name in sorted(before.keys() | found.keys()):
        if before.get(name) != found.get(name):
            console.print(f"{name}: {before.get(name, 'new')} -> {found.get(name, 'gone')}")
    text = json.dumps(dict(sorted(found.items())), ensure_ascii=False, indent=0)
    DIGESTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
