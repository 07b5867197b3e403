"""De-identifier of files: reads them, removes the identity, and writes them as they may leave."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_node.errors import NotDeidentified
from dicom_node.imaging import attributes
from dicom_node.imaging.deidentification import (
    DeidentificationOptions,
    check_content,
    deidentify,
    is_picture_of,
)
from dicom_node.imaging.pixels import errors_as_not_analysable, read_instance
from dicom_node.imaging.pseudonyms import Pseudonyms


class Deidentifier:
    """De-identifier of files, with the pseudonyms and options of a site.

    Parameters
    ----------
    decode
        Function that returns the stored values of a compressed picture, by the path of its file; None: such
        pictures are not masked.
    """

    def __init__(
        self,
        pseudonyms: Pseudonyms,
        options: DeidentificationOptions,
        decode: Callable[[Path], bytes] | None = None,
    ) -> None:
        self._pseudonyms = pseudonyms
        self._options = options
        self._decode = decode

    def unclean(self, path: Path) -> str:
        """Return the SOP Instance UID of a picture whose pixels must not leave as they are; else empty.

        What repeats them must not leave either.
        """
        ds = _read(path)
        try:
            check_content(ds, self._options)
        except NotDeidentified:
            return attributes.text(ds, "SOPInstanceUID")
        return attributes.text(ds, "SOPInstanceUID") if self._options.masks and "PixelData" in ds else ""

    def file(self, path: Path, unclean: frozenset[str] = frozenset()) -> DeidentifiedFile:
        """De-identify a file.

        Parameters
        ----------
        unclean
            SOP Instance UIDs of pictures, from :meth:`unclean`; what is derived from one is refused.

        Raises
        ------
        NotDeidentified
            As :func:`deidentify`.
        NotAnalysable, StorageFailed
            When it is no instance, or cannot be read.
        """
        ds = _read(path)
        with attributes.tolerance():
            if is_picture_of(ds, unclean):
                raise NotDeidentified("it repeats a picture that is masked or refused")
        decode = None if self._decode is None else functools.partial(self._decode, path)
        with errors_as_not_analysable(f"the file {path.name}"):
            done = deidentify(ds, self._pseudonyms, self._options, decode)
            stream = io.BytesIO()
            syntax = done.file_meta.TransferSyntaxUID
            with attributes.tolerance():
                dcmwrite(
                    stream,
                    done,
                    implicit_vr=syntax == ImplicitVRLittleEndian,
                    little_endian=syntax != ExplicitVRBigEndian,
                    enforce_file_format=True,
                )
        return DeidentifiedFile(str(done.StudyInstanceUID), str(done.SOPInstanceUID), stream.getvalue())


@dataclass(frozen=True, slots=True)
class DeidentifiedFile:
    """De-identified instance as a Part 10 file, with its new UIDs."""

    study_instance_uid: str
    sop_instance_uid: str
    content: bytes


def _read(path: Path) -> Dataset:
    with errors_as_not_analysable(f"the file {path.name}"):
        return read_instance(path, pixels=True)
