"""Supplementary explanations: further heat maps for the reading room, and errors of unsupported methods."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError
from dicom_node.store.analysis_records import AnalysisRecords
from dicom_node.store.states import StudyState
from tests.support.pipeline_harness import PipelineHarness, results
from worker.study_reader import StudyReader


def asking(settings: Settings, *methods: str) -> Settings:
    wanted = settings.results.model_copy(update={"page_methods": methods})
    return settings.model_copy(update={"results": wanted})


def test_further_methods_are_drawn_for_the_page_and_for_no_object(settings: Settings) -> None:
    bench = PipelineHarness(asking(settings, "occlusion", "ig"))
    with bench.pipeline:
        uid = bench.receive()
        bench.complete()
        assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED
        reading = AnalysisRecords(bench.index.engine).latest(1)
        pictures = [ds for ds in results(bench) if ds.Modality == "OT"]
    assert reading is not None
    by_method: dict[str, set[str]] = {}
    for each in reading.record.maps:
        by_method.setdefault(each.method, set()).add(each.key)
    assert list(by_method) == ["Grad-CAM", "Occlusion", "Integrated Gradients"]
    assert by_method["Occlusion"] == by_method["Integrated Gradients"]
    shown = {each.key for each in reading.record.findings if each.presence == "present"} - {"normal"}
    assert by_method["Occlusion"] == shown
    # Of Grad-CAM the page has the findings too that no report shows, each once and small.
    assert by_method["Grad-CAM"] == {each.key for each in reading.record.findings if each.key != "normal"}
    assert by_method["Grad-CAM"]
    drawn = [bench.data_dir.maps.read(reading.record.maps_file, n) for n in range(len(reading.record.maps))]
    count = len(shown)
    assert len(drawn) == 3 * count + len(by_method["Grad-CAM"] - shown)
    assert not np.array_equal(drawn[0], drawn[count])
    assert len(pictures) == count  # what goes to the PACS stays Grad-CAM


def test_a_method_that_the_network_has_not_is_refused_at_the_start(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"page_methods: attention: bundle tiny has gradcam"):
        StudyReader.open(asking(settings, "attention"))
