"""Synthetic DICOM films for the tests, and real Open-i pictures in their original headers.

Everything here is deterministic: the same arguments give the same bytes and the same UIDs.
"""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import config, dcmread
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.web.media.drawn_films import chest
from orthanc import openi_dicom

NAMESPACE = uuid.UUID("6f1c3a52-6a0e-4c0a-9d0b-2f5c2f0f7a11")
IMPLEMENTATION = UID("2.25.244612342153021364210764533425432120641")

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
#: Syntaxes that `film` can write with pydicom's encoders.
ENCODED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)
#: Syntaxes that `film` writes with DCMTK's ``dcmcjpeg``, and the option that asks for it.
DCMTK_ENCODED = {JPEGLossless: "+el", JPEGLosslessSV1: "+e1"}


def uid(*parts: object) -> str:
    """UID that is the same for the same parts (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(NAMESPACE, '|'.join(map(str, parts))).int}"


def put(ds: Dataset, elements: Mapping[str, Any]) -> Dataset:
    """Set elements by keyword without checking their values; None deletes an element."""
    for keyword, value in elements.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        if value is None:
            if tag in ds:
                del ds[tag]
            continue
        vr = dictionary_VR(tag)
        vr = "US" if vr == "US or SS" else vr
        try:
            ds[tag] = DataElement(tag, vr, value, validation_mode=config.IGNORE)
        except (ArithmeticError, ValueError):  # not a number: encoded as text, as in a file
            text = "\\".join(value) if isinstance(value, list) else str(value)
            data = text.encode() + b" " * (len(text) % 2)
            ds[tag] = RawDataElement(Tag(tag), vr, len(data), data, 0, False, True)
    return ds


def film(
    *,
    pixels: np.ndarray | None = None,
    photometric: str = "MONOCHROME2",
    bits: int = 12,
    allocated: int | None = None,
    signed: bool = False,
    rows: int = 512,
    columns: int = 448,
    window: tuple[float, float] | None = None,
    voi_function: str | None = None,
    view: str | None = "PA",
    body_part: str | None = "CHEST",
    character_set: str | Sequence[str] | None = "ISO_IR 100",
    patient_name: str | None = "Doe^Jane",
    patient_id: str | None = "PAT-1",
    modality: str = "CR",
    sop_class: str = ComputedRadiographyImageStorage,
    transfer_syntax: str = ExplicitVRLittleEndian,
    study: object = 1,
    series: object = 1,
    instance: int = 1,
    seed: int = 0,
    **elements: Any,
) -> Dataset:
    """Make one film with file meta information, ready for :func:`write` or a C-STORE.

    Parameters
    ----------
    pixels
        Picture in [0, 1] in the MONOCHROME2 sense (floating point, scaled to `bits`), or stored
        values as they are (integers); a drawn chest when absent.
    photometric
        For MONOCHROME1 the drawn picture is stored inverted, so that it is displayed the same.
    window
        Window Center and Width; none when absent.
    study, series, instance
        Values that the UIDs are derived from; the same study gives the same Study Instance UID.
    elements
        Further elements by keyword, set last and unchecked; None deletes.
    """
    if pixels is None:
        pixels = chest(rows, columns, seed=seed, view=view or "PA")
    if pixels.dtype.kind == "f":
        shown = 1 - pixels if photometric == "MONOCHROME1" else pixels
        stored = np.round(shown * (2**bits - 1)).astype(np.int64) - (2 ** (bits - 1) if signed else 0)
    else:
        stored = pixels.astype(np.int64)
    allocated = allocated or (8 if bits <= 8 else 16)
    ds = Dataset()
    study_uid, series_uid = uid("study", study), uid("series", study, series)
    put(
        ds,
        {
            "SpecificCharacterSet": list(character_set)
            if isinstance(character_set, list | tuple)
            else character_set,
            "ImageType": ["ORIGINAL", "PRIMARY"],
            "SOPClassUID": str(sop_class),
            "SOPInstanceUID": uid("instance", study, series, instance),
            "StudyDate": "20240229",
            "SeriesDate": "20240229",
            "AcquisitionDate": "20240229",
            "ContentDate": "20240229",
            "StudyTime": "101530",
            "SeriesTime": "101531",
            "AcquisitionTime": "101532",
            "ContentTime": "101533",
            "AccessionNumber": "ACC-1",
            "Modality": modality,
            "Manufacturer": "Factory",
            "ReferringPhysicianName": "",
            "StudyDescription": "Chest",
            "PatientName": patient_name,
            "PatientID": patient_id,
            "PatientBirthDate": "19700101",
            "PatientSex": "F",
            "PatientAge": "054Y",
            "BodyPartExamined": body_part,
            "ViewPosition": view,
            "StudyInstanceUID": study_uid,
            "SeriesInstanceUID": series_uid,
            "StudyID": "1",
            "SeriesNumber": "1",
            "InstanceNumber": str(instance),
            "PatientOrientation": ["A", "F"] if view in ("LL", "LATERAL", "RL") else ["L", "F"],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": photometric,
            "Rows": stored.shape[0],
            "Columns": stored.shape[1],
            "BitsAllocated": allocated,
            "BitsStored": bits,
            "HighBit": bits - 1,
            "PixelRepresentation": int(signed),
            "WindowCenter": None if window is None else str(window[0]),
            "WindowWidth": None if window is None else str(window[1]),
            "VOILUTFunction": voi_function,
        },
    )
    if sop_class == DigitalXRayImageStorageForPresentation:
        put(ds, {"PresentationIntentType": "FOR PRESENTATION", "PresentationLUTShape": "IDENTITY"})
    dtype = np.dtype(f"{'i' if signed else 'u'}{allocated // 8}").newbyteorder(
        ">" if transfer_syntax == ExplicitVRBigEndian else "<"
    )
    data = stored.astype(dtype).tobytes()
    ds["PixelData"] = DataElement(0x7FE00010, "OW" if allocated > 8 else "OB", data + b"\0" * (len(data) % 2))
    ds.file_meta = file_meta(ds, ExplicitVRLittleEndian if transfer_syntax not in NATIVE else transfer_syntax)
    if transfer_syntax not in NATIVE:
        ds = _encode(ds, UID(transfer_syntax))
    put(ds, elements)
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if keyword in elements:
            put(ds.file_meta, {f"MediaStorage{keyword}": elements[keyword] or ""})
    return ds


def file_meta(ds: Dataset, transfer_syntax: str) -> FileMetaDataset:
    """File meta information of a data set (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = IMPLEMENTATION
    return meta


def _encode(ds: Dataset, syntax: UID) -> Dataset:
    if syntax in DCMTK_ENCODED:
        return _dcmtk(ds, "dcmcjpeg", DCMTK_ENCODED[syntax], "+ua")
    if syntax == JPEGBaseline8Bit:
        stream = io.BytesIO()
        grey = np.frombuffer(ds.PixelData, np.uint8)[: ds.Rows * ds.Columns].reshape(ds.Rows, ds.Columns)
        Image.fromarray(grey).save(stream, "JPEG", quality=95)
        ds["PixelData"] = DataElement(0x7FE00010, "OB", encapsulate([stream.getvalue()]))
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = syntax
        return put(ds, {"LossyImageCompression": "01", "LossyImageCompressionMethod": "ISO_10918_1"})
    ds.compress(syntax, generate_instance_uid=False)
    return ds


def _dcmtk(ds: Dataset, *command: str) -> Dataset:
    """Pass a data set through a DCMTK tool that reads one file and writes another."""
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"{command[0]} is missing: install DCMTK")
    with tempfile.TemporaryDirectory() as folder:
        source, target = write(ds, Path(folder, "in.dcm")), Path(folder, "out.dcm")
        subprocess.run([*command, str(source), str(target)], check=True)
        result = dcmread(io.BytesIO(target.read_bytes()))
    result.SOPInstanceUID = result.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return result


def encoded(ds: Dataset) -> bytes:
    """Encode a data set as a Part 10 file; invalid values are kept."""
    stream = io.BytesIO()
    syntax = ds.file_meta.TransferSyntaxUID
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcmwrite(
            stream,
            ds,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=syntax != ExplicitVRBigEndian,
            enforce_file_format=True,
        )
    return stream.getvalue()


def with_overlay(
    ds: Dataset,
    drawn: np.ndarray,
    *,
    group: int = 0x6000,
    kind: str = "G",
    origin: Sequence[int] = (1, 1),
    **elements: Any,
) -> Dataset:
    """Add an overlay plane to a film, packed as PS3.5 8.1.2 says.

    Parameters
    ----------
    drawn
        Shape (rows, columns), True where something is drawn.
    elements
        Further elements of the plane, by element number as ``x0051``, as VR and value; None deletes.
    """
    packed = np.packbits(drawn, bitorder="little").tobytes()
    plane: dict[int, tuple[str, Any]] = {
        0x0010: ("US", drawn.shape[0]),
        0x0011: ("US", drawn.shape[1]),
        0x0040: ("CS", kind),
        0x0050: ("SS", list(origin)),
        0x0100: ("US", 1),
        0x0102: ("US", 0),
        0x3000: ("OW", packed + b"\0" * (len(packed) % 2)),
    }
    for element, stated in {
        **plane,
        **{int(name[1:], 16): stated for name, stated in elements.items()},
    }.items():
        if stated is not None:
            ds.add(DataElement((group, element), *stated))
    return ds


def write(ds: Dataset, path: Path) -> Path:
    """Write a data set as a Part 10 file; invalid values are kept."""
    path.write_bytes(encoded(ds))
    return path


def header(ds: Dataset) -> Dataset:
    """Copy a film without its pixel data, as a report keeps its source."""
    return ds[:0x7FE00000]


# --- Open-i -----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def openi_headers(films_root: Path) -> Mapping[str, Mapping[str, str]]:
    """Read the original Open-i headers: name of the JPEG file -> column -> value."""
    rows = openi_dicom.read_headers(films_root / "openi" / openi_dicom.HEADERS_FILE)
    return {f"{name}.jpg": row for name, row in rows.items()}


def openi_film(
    row: Mapping[str, str], image: Path | np.ndarray, *, longer_side: int = 512, **elements: Any
) -> Dataset:
    """Make a DICOM film of an Open-i picture and its original header, see :func:`films.wrap`.

    Parameters
    ----------
    row
        Row of :func:`openi_headers`.
    image
        Path of the JPEG file, or its 8-bit pixels.
    longer_side
        Longer side of the film in pixels; its aspect ratio is that of the original.
    """
    grey = openi_dicom.read_grey(image) if isinstance(image, Path) else image
    return openi_dicom.to_dicom(row, openi_dicom.restore_aspect_ratio(row, grey, longer_side), **elements)
