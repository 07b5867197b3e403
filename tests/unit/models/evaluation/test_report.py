"""The folder that evaluation writes, and the tables in it."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.evaluation import tables
from models.evaluation.bootstrap import resampling_weights
from models.evaluation.metrics_summary import summarize_metrics
from models.evaluation.plots import PLOTS
from models.evaluation.predictions import LabelledPredictions
from models.evaluation.report import report_markdown, report_page, write_report
from models.evaluation.report_text_statistics import summarize_report_text
from models.evaluation.subgroups import subgroup_metrics
from models.evaluation.tables import Table
from tests.support.prediction_samples import labelled_predictions, labelled_study

SENTENCE = "Patchy veil over the left base."


def drawn(*, calibrated: tuple[str, ...] = ("normal", "nodule"), labels: int = 3) -> LabelledPredictions:
    random = np.random.default_rng(2)
    counts = dict(list({"normal": 14, "nodule": 8, "mass": 2}.items())[:labels])
    truth = {key: [number < count for number in range(40)] for key, count in counts.items()}
    scores = {key: random.random(40) for key in truth}
    studies = [
        labelled_study(
            number, report=SENTENCE, views=("frontal",) * (number % 3), facts={"manufacturer": "A <b> & | C"}
        )
        for number in range(40)
    ]
    return labelled_predictions(truth, scores, calibrated=calibrated, studies=studies)


def measured(given: LabelledPredictions, **changes: Any) -> dict[str, Any]:
    weights = resampling_weights(given.patients, resamplings=40)
    table = {
        "bundle": "drawn-findings 0.0.1", "weights_sha256": "0" * 64, "dataset": "openi", "split": "test",
        "text": "none", "warnings": [], "n_left_out": 0, "n_without_text": 0,
        **summarize_metrics(given, weights),
        "subgroups": subgroup_metrics(given, weights), "words": summarize_report_text(given),
    }  # fmt: skip
    return json.loads(json.dumps(table | changes, allow_nan=False))


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "new" / "report"
    given = drawn()
    seen: list[tuple[int, int]] = []
    write_report(folder, given, measured(given), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(PLOTS), len(PLOTS))
    return folder


class TestFolder:
    def test_everything_is_there(self, folder: Path):
        names = {path.name for path in folder.iterdir()}
        assert names == {"metrics.json", "report.html", "table.md", *PLOTS}
        assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["macro"]["n_labels"] == 2

    def test_the_pictures_are_pictures(self, folder: Path):
        for name in PLOTS:
            with Image.open(folder / name) as picture:
                assert picture.format == "PNG"
                assert np.asarray(picture.convert("L")).std() > 5
                # Nothing of the machine that drew it.
                assert not picture.info.get("Software")

    def test_the_page_needs_nothing_else(self, folder: Path):
        text = (folder / "report.html").read_text(encoding="utf-8")
        found = Page(text)
        tags = [tag for tag, _ in found.tags]
        assert not {"script", "link", "iframe", "object", "a", "form"} & set(tags)
        sources = [value for _, attributes in found.tags for name, value in attributes.items()
                   if name in ("src", "href", "srcset", "action")]  # fmt: skip
        assert len(sources) == len(PLOTS)
        for name, source in zip(PLOTS, sources, strict=True):
            assert source is not None
            assert source.startswith("data:image/png;base64,")
            assert base64.b64decode(source.partition(",")[2]) == (folder / name).read_bytes()
        assert "http" not in text
        assert "url(" not in text
        assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)

    def test_the_page_says_first_that_it_is_for_research(self, folder: Path):
        found = Page((folder / "report.html").read_text(encoding="utf-8"))
        body = found.text[found.text.index("RESEARCH USE ONLY") :]
        assert body.index("never for diagnosis") < body.index("drawn-findings 0.0.1")

    def test_no_report_is_quoted(self, folder: Path):
        for name in ("report.html", "table.md", "metrics.json"):
            text = (folder / name).read_text(encoding="utf-8")
            assert "veil over" not in text
            assert "patchy" in text

    def test_every_table_names_the_text_that_was_read(self, folder: Path):
        titles = re.findall(r"^### (.*)$", (folder / "table.md").read_text(encoding="utf-8"), re.MULTILINE)
        assert len(titles) == 9
        assert all(title.endswith("openi test, text: none") for title in titles)

    def test_a_picture_of_an_earlier_report_does_not_stay(self, folder: Path):
        given = drawn(calibrated=())
        write_report(folder, given, measured(given))
        assert "reliability.png" not in {path.name for path in folder.iterdir()}
        text = (folder / "report.html").read_text(encoding="utf-8")
        assert len(re.findall("<img ", text)) == len(PLOTS) - 1


def test_the_same_figures_are_drawn_the_same_again(tmp_path: Path):
    given = drawn(labels=1)
    for name in ("one", "two"):
        write_report(tmp_path / name, given, measured(given))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_sample_without_a_label_to_draw_has_tables_all_the_same(tmp_path: Path):
    given = labelled_predictions({"mass": [True, False, False]}, {"mass": [0.2, 0.1, 0.4]})
    write_report(tmp_path, given, measured(given))
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "report.html", "table.md"}
    assert "fewer than 5 positives" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_a_sample_of_one_label_is_one_panel(tmp_path: Path):
    given = drawn(labels=1)
    write_report(tmp_path, given, measured(given))
    with Image.open(io.BytesIO((tmp_path / "roc.png").read_bytes())) as picture:
        assert picture.width < 700


def test_baselines_stand_in_the_tables():
    table = measured(drawn())
    text = report_markdown(table)
    assert "| baseline | 0.500 |" in text
    assert "predicting nothing at all" in text
    assert "the most common answer" in text
    assert "abnormal recall at normal recall 0.86" in text
    assert "1 - normal" in text
    assert (
        "dicom-node evaluate drawn-findings-0.0.1 --dataset openi --data FOLDER --split test --text none"
        in text
    )
    row = next(line for line in text.splitlines() if line.startswith("| nodule | 8"))
    assert "(0.200)" in row  # prevalence
    assert "(0.333)" in row  # F1 of reporting all
    assert "(0.800)" in row  # accuracy of nothing


def test_rare_labels_are_in_a_table_of_their_own():
    table = measured(drawn())
    assert [row[0] for row in tables.label_table(table).rows] == ["normal", "nodule"]
    assert [row[0] for row in tables.rare_label_table(table).rows] == ["mass"]


def test_warnings_and_what_was_left_out_come_before_the_figures():
    table = measured(
        drawn(),
        warnings=["Labels come from the report."],
        not_in_dataset=["hernia"],
        n_left_out=4,
        n_without_text=4,
    )
    text = report_markdown(table)
    for sentence in (
        "Labels come from the report.",
        "does not speak of hernia",
        "4 studies have no such text",
    ):
        assert sentence in text[: text.index("###")]
        assert sentence in report_page(table, [])
    optional = measured(drawn(), n_without_text=2)
    assert "2 studies have no such text and were read without one" in report_markdown(optional)


def test_cells_can_break_neither_table():
    made = Table("<i>", ("a|b", "c"), (("x | <script>", "&"),), "<u>")
    assert made.markdown().splitlines()[2] == r"| x \| <script> | & |"
    assert Page(made.html()).text.split("\n")[0].startswith("<i>")
    assert [tag for tag, _ in Page(made.html()).tags].count("script") == 0
    assert "A <b> & | C" in Page(report_page(measured(drawn()), [])).text
