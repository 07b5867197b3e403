"""Folder in the layout of ChestX-ray14 with uniform grey films."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

HEADERS = {
    "Data_Entry_2017.csv": "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
    "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],",
    "Data_Entry_2017_v2020.csv": "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,"
    "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]",
}


AGES = {"Data_Entry_2017.csv": "058Y", "Data_Entry_2017_v2020.csv": "58"}


#: Patients 1 to 20 with two films each; those above 16 are in the published test list.
PATIENTS = range(1, 21)


def film_names(patient: int) -> list[str]:
    """File names of the two films of a patient."""
    return [f"{patient:08d}_{number:03d}.png" for number in range(2)]


def write_film(path: Path) -> None:
    """Write a grey film."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16), 90, np.uint8)).save(path)


def write_nih(root: Path, entries: str) -> Path:
    """Write the collection with the table `entries`: one of the two spellings in HEADERS."""
    rows = [HEADERS[entries]]
    for patient in PATIENTS:
        for number, file in enumerate(film_names(patient)):
            labels = "No Finding" if number else "Effusion|Pleural_Thickening"
            rows.append(
                f"{file},{labels},{number},{patient},{AGES[entries]},M,PA,2682,2749,0.143,0.143"
                + "," * HEADERS[entries].endswith(",")
            )
            write_film(root / f"images_{1 + patient % 2:03d}" / "images" / file)
    (root / entries).write_text("\n".join(rows) + "\n")
    (root / "train_val_list.txt").write_text("\n".join(f for p in PATIENTS if p <= 16 for f in film_names(p)))
    (root / "test_list.txt").write_text(
        "\n".join(f for p in PATIENTS if p > 16 for f in film_names(p)) + "\n"
    )
    return root
