"""Items are shared by many objects: none can be changed, or carries over what is of one object alone."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.results import codes
from dicom_node.results.encoding.item import Item
from dicom_node.results.encoding.part10 import (
    content_digest,
    dataset,
    encoded,
    item,
    put,
    texts,
    with_file_meta,
)
from dicom_node.results.sr import content_items
from dicom_node.results.sr.findings import write_sr
from tests.support.factories import film
from tests.support.reports import EQUIPMENT, report_of

CHANGES: dict[str, Callable[[Dataset], object]] = {
    "put": lambda ds: put(ds, CodeMeaning="changed"),
    "set by keyword": lambda ds: setattr(ds, "CodeMeaning", "changed"),
    "set what it has not": lambda ds: setattr(ds, "TextValue", "added"),
    "add": lambda ds: ds.add_new(0x00080104, "LO", "changed"),
    "delete": lambda ds: delattr(ds, "CodeMeaning"),
    "delete by tag": lambda ds: ds.__delitem__(0x00080104),
    "update": lambda ds: ds.update(dataset(CodeMeaning="changed")),
}


def holding(*items: Dataset, **values: object) -> Dataset:
    named = dataset(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34", SOPInstanceUID="1.2.3", **values)
    return with_file_meta(put(named, ContentSequence=items))


@pytest.mark.parametrize("change", CHANGES)
def test_an_item_of_a_report_cannot_be_changed(change: str) -> None:
    report = report_of(film())
    expected = encoded(write_sr(report, equipment=EQUIPMENT))
    written = write_sr(report, equipment=EQUIPMENT)
    name = written.ContentSequence[0].ConceptNameCodeSequence[0]
    before = str(name)
    with pytest.raises(TypeError, match="deepcopy"):
        CHANGES[change](name)
    assert str(name) == before
    assert encoded(written) == encoded(write_sr(report, equipment=EQUIPMENT)) == expected


def test_a_deep_copy_can_be_changed_and_changes_nothing_else() -> None:
    written = write_sr(report_of(film()), equipment=EQUIPMENT)
    expected = encoded(written)
    changed = copy.deepcopy(written)
    assert encoded(changed) == expected
    put(changed.ContentSequence[0].ConceptNameCodeSequence[0], CodeMeaning="changed")
    assert encoded(changed) != expected == encoded(written)


def test_bytes_that_depend_on_the_character_set_are_not_kept() -> None:
    shared = item(ContentSequence=[item(TextValue="Größe")])
    for terms in ("ISO_IR 192", "ISO_IR 100"):
        ds = holding(shared, SpecificCharacterSet=terms)
        assert sorted(texts(ds)) == ["Größe"]
        read = dcmread(io.BytesIO(encoded(ds)))
        assert read.ContentSequence[0].ContentSequence[0].TextValue == "Größe"
    assert shared.kept is None


def test_a_text_with_an_escape_is_seen_each_time() -> None:
    shared = item(TextValue="a \x1b$B")
    for _ in range(2):
        content_digest(holding(shared))
        assert list(texts(holding(shared))) == ["a \x1b$B"]


def test_what_an_item_holds_may_change_where_that_is_no_item() -> None:
    within = dataset(TextValue="before")
    shared = item(ContentSequence=[within])
    assert b"before" in encoded(holding(shared))
    put(within, TextValue="afterwards")
    assert b"afterwards" in encoded(holding(shared))


def test_items_of_a_model_are_made_once_and_those_of_a_study_each_time() -> None:
    first, second = (write_sr(report_of(film()), equipment=EQUIPMENT) for _ in range(2))
    made = [
        content_items.fixed_text(content_items.HAS_CONCEPT_MOD, codes.ALGORITHM_NAME, name) for name in "aab"
    ]
    assert made[0] is made[1]
    assert [each.TextValue for each in made] == ["a", "a", "b"]
    assert first.ContentSequence[0] is second.ContentSequence[0]
    groups = [ds.ContentSequence[-2].ContentSequence[-1] for ds in (first, second)]
    assert isinstance(groups[0], Item)
    assert groups[0] is not groups[1]
