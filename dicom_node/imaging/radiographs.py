"""SOP classes and modalities of radiographs: which are accepted, and which are analysed.

The Storage SCP accepts one SOP class more than the models read. Multi-frame true colour Secondary Capture is
always in colour, so no model can read it. It is accepted all the same, because an archive may send a study as
a whole: the instance is kept, and the node can say why it was not analysed. Single-bit Secondary Capture
cannot hold a radiograph and is refused.
"""

from __future__ import annotations

import re
from typing import Final

from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

RADIOGRAPHY_SOP_CLASSES: Final[tuple[UID, ...]] = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)
"""SOP classes that hold nothing but radiographs (PS3.4 annex B.5)."""

SECONDARY_CAPTURE_SOP_CLASSES: Final[tuple[UID, ...]] = (
    SecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)
"""SOP classes of scanned and converted films. Instances that are no films are told by modality, colour and
number of frames."""

ANALYSED_SOP_CLASSES: Final = frozenset({*RADIOGRAPHY_SOP_CLASSES, *SECONDARY_CAPTURE_SOP_CLASSES})
"""SOP classes of the instances that models may read."""

ACCEPTED_SOP_CLASSES: Final[tuple[UID, ...]] = (
    *RADIOGRAPHY_SOP_CLASSES,
    *SECONDARY_CAPTURE_SOP_CLASSES,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
"""SOP classes that the Storage SCP accepts, in the order of the conformance statement."""

RADIOGRAPHY_MODALITIES: Final = frozenset({"CR", "DX", "DR", "RG", "XR"})
"""Modality (0008,0060) values of a projection radiograph; DR and XR are not in the standard, but in use."""

DEFINED_MODALITIES: Final = frozenset(
    re.findall(
        r"\w+",
        "ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC "
        "HD IO IOL IVOCT IVUS KER KO LEN LS M3D MG MR NM OAM OCT OP OPM OPR OPT OPTBSV OPTENF OPV OSS OT "
        "PA PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN "
        "RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC DR XR",
    )
)
"""Defined Terms of Modality (PS3.3 C.7.3.1.1.1), and two in use; another value is free text."""

ANALYSED_MODALITIES: Final = RADIOGRAPHY_MODALITIES | {"OT", ""}
"""Modality values of the instances that models may read: OT is what a film scanner writes, and an instance
without a value may be a radiograph."""
