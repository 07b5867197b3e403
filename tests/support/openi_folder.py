"""Folders in the two layouts of Open-i, with drawn films."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.drawn_studies import draw_film

MAJORS = ("normal", "Cardiomegaly/mild", "Pleural Effusion/left|Nodule/lung", "Nodule/lung")


def write_openi(root: Path, counts: dict[str, int]) -> Path:
    """Write a data set with an index file; `counts` are studies per split, every second with two films."""
    (root / "images").mkdir(parents=True)
    rows = []
    number = 0
    for split, count in counts.items():
        for _ in range(count):
            number += 1
            majors = MAJORS[number % len(MAJORS)]
            for view in range(1 + number % 2):
                name = f"{number}_IM-{view}.png"
                film = draw_film(64, 64, number * 10 + view)
                # Something to learn: a bright corner for an abnormal heart.
                if majors.startswith("Cardiomegaly"):
                    film[:24, :24] = 1
                Image.fromarray((film * 255).astype(np.uint8)).save(root / "images" / name)
                rows.append({"file": name, "uid": str(number), "mesh_major": majors, "split": split})
    with (root / "index.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file", "uid", "mesh_major", "split"])
        writer.writeheader()
        writer.writerows(rows)
    return root


REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
   <uId id="CXR{number}"/>
   <MedlineCitation>
      <Article>
         <Abstract>
            <AbstractText Label="COMPARISON">None.</AbstractText>
            <AbstractText Label="INDICATION">XXXX-year-old {sex}, cough.</AbstractText>
            <AbstractText Label="FINDINGS">The heart is
               large.</AbstractText>
            <AbstractText Label="IMPRESSION">Cardiomegaly.</AbstractText>
         </Abstract>
      </Article>
   </MedlineCitation>
   <MeSH>
      <major>{major}</major>
      <automatic>heart</automatic>
   </MeSH>
   {images}
</eCitation>
"""


def image_names(number: int) -> list[str]:
    """Names of the one or two films of a report."""
    # Report 1 of the collection writes its number twice.
    prefix = "CXR1_1" if number == 1 else f"CXR{number}"
    return [f"{prefix}_IM-{number:04d}-1001", f"{prefix}_IM-{number:04d}-2001"][: 1 + number % 2]


def write_reports(folder: Path, count: int = 30) -> Path:
    """Write reports as the collection has them: every third is of a woman, every second has two films."""
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        images = "".join(
            f'<parentImage id="{name}"><figureId>F1</figureId></parentImage>' for name in image_names(number)
        )
        major = ("normal", "Cardiomegaly/mild", "No Indexing")[number % 3]
        xml = REPORT.format(number=number, sex="male" if number % 3 else "female", major=major, images=images)
        (folder / f"{number}.xml").write_text(xml, encoding="utf-8")
    return folder


def write_pngs(folder: Path, count: int = 30) -> None:
    """Write the films of :func:`write_reports`."""
    folder.mkdir(parents=True)
    grey = Image.fromarray((draw_film(64, 48, 1) * 255).astype(np.uint8))
    for number in range(1, count + 1):
        for name in image_names(number):
            grey.save(folder / f"{name}.png")
