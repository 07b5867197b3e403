"""Tables and boxes: what was written is read, and every box that is taken lies on its film."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.boxes import read_boxes
from models.data.metadata import whole_years
from models.data.openi_reports import film_name
from models.data.tables import read_table
from models.errors import DatasetError

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=12).map(str.strip)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=8))
@settings(max_examples=60)
def test_a_table_is_read_as_it_was_written(rows: list[tuple[str, str, str]]):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table.csv")
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("first", "second", "third"), *rows])
        found = [row for _, row in read_table(path, ("third", "first"))]
    assert found == [
        {"third": third, "first": first} for first, second, third in rows if first + second + third
    ]


@given(st.lists(st.floats(-3000, 3000), min_size=4, max_size=4))
@settings(max_examples=100)
def test_a_box_lies_on_its_film_or_is_refused(numbers: list[float]):
    x, y, width, height = numbers
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "BBox_List_2017.csv").write_text(
            f"Image Index,Finding Label,Bbox [x,y,w,h],,,\n1.png,Mass,{x!r},{y!r},{width!r},{height!r},,,\n"
        )
        try:
            ((box,),) = read_boxes(Path(folder)).values()
        except DatasetError:
            # It has no area on the film.
            wide, high = (min(a + b, 1024) - max(a, 0) for a, b in ((x, width), (y, height)))
            assert min(wide, high) < 1e-9
            return
    assert 0 <= box.x < box.x + box.width <= 1 + 1e-9
    assert 0 <= box.y < box.y + box.height <= 1 + 1e-9


@given(st.integers(0, 120), st.sampled_from(["{}", "{:03d}Y", "{:03d}y", " {} "]))
def test_whole_years_are_read_in_every_spelling(years: int, spelling: str):
    assert whole_years(spelling.format(years)) == str(years)


@given(st.integers(1, 9999), st.integers(1, 9999), st.integers(1001, 9001))
def test_every_spelling_of_a_film_is_one(number: int, series: int, image: int):
    name = f"{number}_IM-{series:04d}-{image}"
    spellings = (name, f"CXR{name}", f"CXR{number}_{name}", f"./{name}.dcm", f"CXR{name}.png")
    assert {film_name(spelling) for spelling in spellings} == {name}
