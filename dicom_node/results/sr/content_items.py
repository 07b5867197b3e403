"""Content items of a structured report (PS3.3 C.17.3, C.18)."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from pydicom.dataset import Dataset

from dicom_node.results.encoding.item import Item
from dicom_node.results.encoding.part10 import code_item, item
from dicom_node.results.report import Code

Children: TypeAlias = Sequence[Dataset]

CONTAINS = "CONTAINS"
HAS_ACQ_CONTEXT = "HAS ACQ CONTEXT"
HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
HAS_OBS_CONTEXT = "HAS OBS CONTEXT"
HAS_PROPERTIES = "HAS PROPERTIES"
INFERRED_FROM = "INFERRED FROM"
SELECTED_FROM = "SELECTED FROM"


def _item(
    relation: str | None, value_type: str, name: Code | None, children: Children = (), **values: Any
) -> Item:
    found: dict[str, Any] = {} if relation is None else {"RelationshipType": relation}
    found["ValueType"] = value_type
    if name is not None:
        found["ConceptNameCodeSequence"] = [code_item(name)]
    if children:
        found["ContentSequence"] = list(children)
    return item(**found, **values)


def container(
    relation: str | None, name: Code, children: Children, *, template: str = "", **values: Any
) -> Item:
    """CONTAINER item; `template` is the TID that it follows, when it is the root of one."""
    if template:
        values["ContentTemplateSequence"] = [_template(template)]
    return _item(relation, "CONTAINER", name, children, ContinuityOfContent="SEPARATE", **values)


@functools.cache
def _template(identifier: str) -> Item:
    return item(MappingResource="DCMR", TemplateIdentifier=identifier)


def code(relation: str, name: Code, value: Code, children: Children = ()) -> Item:
    """Content item of the value type CODE."""
    return _code(relation, name, value, children) if children else _childless_code(relation, name, value)


def _code(relation: str, name: Code, value: Code, children: Children = ()) -> Item:
    return _item(relation, "CODE", name, children, ConceptCodeSequence=[code_item(value)])


_childless_code = functools.lru_cache(maxsize=1024)(_code)


def text(relation: str, name: Code, value: str, children: Children = ()) -> Item:
    """Content item of the value type TEXT."""
    return _item(relation, "TEXT", name, children, TextValue=value)


@functools.lru_cache(maxsize=1024)
def fixed_text(relation: str, name: Code, value: str) -> Item:
    """Content item as of :func:`text` that is kept: of a model or the node, and of no study."""
    return text(relation, name, value)


def pname(relation: str, name: Code, value: str) -> Item:
    """Content item of the value type PNAME; `value` is a PN."""
    return _item(relation, "PNAME", name, PersonName=value)


def uidref(relation: str, name: Code, value: str) -> Item:
    """Content item of the value type UIDREF."""
    return _item(relation, "UIDREF", name, UID=value)


def date(relation: str, name: Code, value: str) -> Item:
    """Content item of the value type DATE."""
    return _item(relation, "DATE", name, Date=value)


def num(relation: str, name: Code, value: str, unit: Code, children: Children = ()) -> Item:
    """Content item of the value type NUM; `value` is a decimal string of at most 16 characters."""
    measured = item(MeasurementUnitsCodeSequence=[code_item(unit)], NumericValue=value)
    return _item(relation, "NUM", name, children, MeasuredValueSequence=[measured])


def reference(sop_class_uid: str, sop_instance_uid: str, **values: Any) -> Item:
    """Item that refers to a SOP instance (PS3.3 table 10-11), with further elements by keyword."""
    return item(ReferencedSOPClassUID=sop_class_uid, ReferencedSOPInstanceUID=sop_instance_uid, **values)


def image(relation: str, name: Code | None, referenced: Dataset, children: Children = ()) -> Item:
    """Content item of the value type IMAGE."""
    return _item(relation, "IMAGE", name, children, ReferencedSOPSequence=[referenced])


def composite(relation: str, name: Code | None, referenced: Dataset) -> Item:
    """Content item of the value type COMPOSITE."""
    return _item(relation, "COMPOSITE", name, ReferencedSOPSequence=[referenced])


def polyline(relation: str, name: Code, points: Iterable[float], source: Dataset) -> Item:
    r"""SCOORD of a polyline in an image.

    Parameters
    ----------
    points
        Column and row of each vertex in turn, 0\\0 being the top left corner of the top left pixel
        (PS3.3 C.18.6.1.1); closed when the last is the first.
    source
        Reference to the image, from :func:`reference`.
    """
    selected = image(SELECTED_FROM, None, source)
    return _item(relation, "SCOORD", name, [selected], GraphicData=list(points), GraphicType="POLYLINE")
