"""Cost of highdicom as a writer of results: import, memory, and time for each object of a large film.

``python -m tests.bench.result_writers`` prints the table of docs/decisions/0004. Secondary Captures and key
objects are written by pydicom; for these the same content is given to highdicom too. The first object of a
process reads highdicom's table of the standard's modules.
"""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

from dicom_node.results import codes
from dicom_node.results.encoding import highdicom_parts
from dicom_node.results.image import multiframe, overlay
from dicom_node.results.image.presentation_state import write_gsps
from dicom_node.results.image.secondary_capture import write_sc
from dicom_node.results.image.segmentation import write_seg
from tests.support.factories import chest, film
from tests.support.reports import EQUIPMENT, report_of

SIDE = 2048
REPEATS = 9

_IMPORT = """
import resource, time, numpy, PIL.Image, pydicom.dataset, pydicom.pixels
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
import highdicom.sc
imported, most = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
highdicom.sc.SCImage(
    numpy.zeros((8, 8, 3), numpy.uint8), "RGB", 8, "PATIENT", *["1.2.3"] * 2, 1, "1.2.4", 1, "",
    patient_orientation=("L", "F"),
)
written, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(imported - start, (most - before) / 1024, written - imported, (after - most) / 1024)
"""


def milliseconds(write: Callable[[], object]) -> float:
    """Median time of a call."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        write()
        taken.append(1000 * (time.perf_counter() - start))
    return float(np.median(taken))


def main() -> None:
    """Print the table."""
    run = [sys.executable, "-c", _IMPORT]
    found = map(float, subprocess.run(run, check=True, capture_output=True, text=True).stdout.split())
    for what, seconds, mebibytes in zip(("import of highdicom", "first object"), found, found, strict=False):
        print(f"{what}: {seconds:.2f} s, {mebibytes:.0f} MiB at most")
    warnings.simplefilter("ignore")
    from highdicom.sc import SCImage

    report = report_of(film(rows=SIDE, columns=SIDE))
    maps = next(iter(multiframe.film_maps(report)))
    finding, saliency = maps.maps[0]
    pixels = chest(SIDE, SIDE)
    picture = overlay.draw(pixels, saliency.values, banner="", caption="", longer_side=1024)
    source = highdicom_parts.source_image(maps.source, report.study_instance_uid)
    rows = {
        "Segmentation, highdicom": lambda: write_seg(report, maps, equipment=EQUIPMENT),
        "Presentation State, highdicom": lambda: write_gsps(report, maps, equipment=EQUIPMENT),
        "Secondary Capture, pydicom, with drawing": lambda: write_sc(
            report, finding, saliency, pixels, equipment=EQUIPMENT
        ),
        "drawing alone": lambda: overlay.draw(
            pixels, saliency.values, banner="", caption="", longer_side=1024
        ),
        "Secondary Capture, highdicom, without drawing": lambda: SCImage.from_ref_dataset(
            source, picture, "RGB", 8, "PATIENT", "1.2.3", 1, "1.2.3.4", 1, codes.RESEARCH_USE_ONLY,
            patient_orientation=("L", "F"),
        ),
    }  # fmt: skip
    for name, write in rows.items():
        print(f"{name}: {milliseconds(write):.1f} ms")


if __name__ == "__main__":
    main()
