"""Bytes of all results of a study with five findings, sent to a destination that takes them compressed."""

from __future__ import annotations

import numpy as np

from dicom_node.config.sections import ResultSettings
from dicom_node.results.encoding.compression import Compression
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.result_set import write_results
from tests.support.benchmarks import Record, Target, few, seconds_of
from tests.support.factories import chest, film
from tests.support.reports import EQUIPMENT, SIMILAR, finding, report_of, saliency_of

FINDINGS = 5


def test_five_findings(record: Record) -> None:
    source = film(rows=2236, columns=2236)
    pixels = {str(source.SOPInstanceUID): np.array(chest(2236, 2236), np.float32)}
    findings = [
        finding(
            f"finding_{number}", f"Finding {number}", saliency=[saliency_of(source, row=0.3 + number / 12)]
        )
        for number in range(FINDINGS)
    ]
    report = report_of(source, findings=findings, similar=SIMILAR)
    defaults = ResultSettings()

    def write(compression: Compression) -> int:
        written = write_results(
            report,
            pixels,
            equipment=EQUIPMENT,
            objects=defaults.objects,
            columns=defaults.saliency_columns,
            compression=compression,
        )
        return sum(len(encoded(ds)) for _, ds in written)

    record(
        f"results of {FINDINGS} findings on the wire",
        "MB",
        write(defaults.compression) / 1e6,
        peer="the same uncompressed",
        peer_samples=write("none") / 1e6,
        target=Target("at most", 2),
    )
    taken = seconds_of(lambda: write(defaults.compression), few(15, 3))
    record(f"writing the results of {FINDINGS} findings", "ms", [1000 * each for each in taken])
