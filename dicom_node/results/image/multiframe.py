"""Multi-frame images of heat maps: their films, pixels, dimensions and references to the source.

PS3.3 C.7.6.16 (Multi-frame Functional Groups), C.7.6.17 (Multi-frame Dimension), C.12.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from dicom_node.errors import EncodingFailed
from dicom_node.imaging.pixel_shape import aspect_ratio
from dicom_node.results import codes, uids
from dicom_node.results.encoding import composite, header
from dicom_node.results.encoding.part10 import code_item, dataset, put
from dicom_node.results.encoding.pixel_history import lossy_compression
from dicom_node.results.report import Finding, FloatArray, Report, Saliency, Source

PIXEL_DATA: Final = 0x7FE00010
_BYTE: Final = 8
_DENOMINATOR: Final = 1000


@dataclass(frozen=True, slots=True, eq=False)
class FilmMaps:
    """The heat maps of one film.

    Attributes
    ----------
    number
        Number of the film among those that have maps, from 1.
    maps
        One for each finding.
    """

    source: Source
    number: int
    maps: tuple[tuple[Finding, Saliency], ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the film."""
        return self.source.shape

    def frames(self) -> Iterator[FloatArray]:
        """The maps in the film's rows and columns, float32 in [0, 1]."""
        return (saliency.at(*self.shape) for _, saliency in self.maps)


def film_maps(report: Report) -> Iterator[FilmMaps]:
    """The films of a report that have heat maps, in order.

    Raises
    ------
    EncodingFailed
        When a film with maps cannot be referred to.
    """
    number = 0
    for source in report.sources:
        maps = tuple(
            (finding, saliency)
            for finding in report.findings
            for saliency in finding.saliency
            if saliency.sop_instance_uid == source.sop_instance_uid
        )
        if not maps:
            continue
        if not composite.referenceable(source):
            raise EncodingFailed("a film with heat maps lacks a UID")
        number += 1
        yield FilmMaps(source, number, maps)


def put_pixels(ds: Dataset, film: FilmMaps, *, bits: int, data: bytes) -> None:
    """Set Image Pixel module and frame count: unsigned, one sample (PS3.3 C.7.6.3)."""
    rows, columns = film.shape
    put(
        ds,
        NumberOfFrames=len(film.maps),
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=rows,
        Columns=columns,
        BitsAllocated=bits,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=0,
    )
    ds.add_new(PIXEL_DATA, "OB" if bits <= _BYTE else "OW", data + b"\0" * (len(data) % 2))
    put_lossiness(ds, film.source)


def put_lossiness(ds: Dataset, source: Source) -> None:
    """Say whether the film was ever compressed with loss, as far as it says itself (PS3.3 C.7.6.1.1.5)."""
    put(ds, **{"LossyImageCompression": "00", **lossy_compression(source.header)})


def pixel_aspect_ratio(source: Source) -> list[int]:
    """Height and width of the film's pixels as two small integers (PS3.3 C.7.6.3.1.7)."""
    ratio = Fraction(aspect_ratio(source.header)).limit_denominator(_DENOMINATOR)
    return [ratio.numerator, ratio.denominator]


def put_dimension(ds: Dataset, group_keyword: str, index_keyword: str) -> None:
    """Name the one dimension that frames are told apart by (PS3.3 C.7.6.17)."""
    organization = uids.derived_uid("dimension", ds.SeriesInstanceUID, ds.InstanceNumber)
    put(
        ds,
        DimensionOrganizationSequence=[dataset(DimensionOrganizationUID=organization)],
        DimensionIndexSequence=[
            dataset(
                DimensionOrganizationUID=organization,
                DimensionIndexPointer=tag_for_keyword(index_keyword),
                FunctionalGroupPointer=tag_for_keyword(group_keyword),
            )
        ],
    )


def put_common_reference(ds: Dataset, source: Source) -> None:
    """List the film by its series (PS3.3 C.12.2)."""
    put(
        ds,
        ReferencedSeriesSequence=[
            dataset(
                SeriesInstanceUID=header.repaired(source.header, "SeriesInstanceUID"),
                ReferencedInstanceSequence=[composite.referenceable(source)],
            )
        ],
    )


def derivation(source: Source) -> list[Dataset]:
    """Content of the Derivation Image functional group (PS3.3 C.7.6.16.2.6)."""
    item = composite.referenceable(
        source,
        SpatialLocationsPreserved="YES",
        PurposeOfReferenceCodeSequence=[code_item(codes.SOURCE_IMAGE)],
    )
    assert item is not None
    return [
        dataset(
            SourceImageSequence=[item],
            DerivationCodeSequence=[code_item(codes.GRADIENT_CLASS_ACTIVATION)],
        )
    ]


def put_functional_groups(ds: Dataset, shared: Dataset, frames: Sequence[Dataset]) -> None:
    """Set shared and per-frame functional groups (PS3.3 C.7.6.16)."""
    put(ds, SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=list(frames))
