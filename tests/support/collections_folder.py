"""Small folder of drawn films in the form of :mod:`models.data.collections`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "file,source_set,patient,labels,view,use,orientation_suspect\n"
ROWS = """\
a.png,nih_128px,1,Effusion|Mass,PA,train,
b.png,nih_full,1,No Finding,AP,train,
c.png,jsrt_256px,J1,Nodule,PA,external test,
d.png,jsrt_256px,J2,No nodule,PA,external test,1
e.png,shenzhen_256px,S1,Tuberculosis,PA,external test,
f.png,kermany_224px,B1,Pneumonia bacterial,AP,train,
g.png,kermany_224px,N1,Normal,AP,train,
h.png,cohen_covid,C1,todo,AP Supine,train,
i.png,cohen_covid,C2,COVID-19,AP Supine,train,
j.png,cohen_covid,C3,COVID-19,,train,1
"""


def write_collections(root: Path, rows: str = ROWS) -> Path:
    """Write the table and a film for each letter from a to j; return the folder."""
    root.mkdir(parents=True, exist_ok=True)
    for name in "abcdefghij":
        Image.fromarray(np.full((16, 16), 128, np.uint8)).save(root / f"{name}.png")
    (root / "index.csv").write_text(HEADER + rows, encoding="utf-8")
    return root
