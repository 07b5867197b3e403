"""Published collections of chest radiographs: their files, addresses and terms of use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """File of a collection.

    Attributes
    ----------
    name
        File name in the collection.
    signs
        Glob patterns; a match in a folder shows that the file, or its unpacked content, is there.
    url
        Address; empty for a file without a permanent address, which a person must download.
    size
        Size in bytes; None if unknown.
    digest
        ``md5:`` or ``sha256:`` and hexadecimal digits; empty if unknown.
    folder
        Folder into which the file is unpacked; empty for a file that is not unpacked.
    """

    name: str
    signs: tuple[str, ...]
    url: str = ""
    size: int | None = None
    digest: str = ""
    folder: str = ""

    def present(self, root: Path) -> bool:
        """Return whether a folder contains the file, or its unpacked content."""
        return any(next(root.glob(sign), None) is not None for sign in self.signs)


@dataclass(frozen=True, slots=True)
class Collection:
    """Published collection of films.

    Attributes
    ----------
    page
        Web page on which a person finds the files.
    terms
        Terms of use.
    tables
        Files of labels and reports, which are always needed.
    films
        Files of the films by image format; the first format is the default.
    """

    page: str
    terms: str
    tables: tuple[PublishedFile, ...]
    films: Mapping[str, tuple[PublishedFile, ...]]


_OPENI = "https://openi.nlm.nih.gov/imgs/collections/"
_OPENI_FILMS = ("images/*", "NLMCXR_png/*", "NLMCXR_dcm/*", "*.png")
"""Places in which the reader of the data set looks for films."""

_BOX = "https://nihcc.box.com/shared/static/"
# ``images_001.tar.gz`` and so on: end of the address, size in bytes, and MD5 digest (FAQ of the collection,
# question 7).
_NIH_ARCHIVES = (
    ("vfk49d74nhbxq3nqjg0900w5nvkorp5c", 2_008_470_987, "fe8ed0a6961412fddcbb3603c11b3698"),
    ("i28rlmbvmfjbl8p2n3ril0pptcmcu9d1", 3_952_623_504, "ab07a2d7cbe6f65ddd97b4ed7bde10bf"),
    ("f1t00wrtdk94satdfb9olcolqx20z2jp", 3_929_234_850, "2301d03bde4c246388bad3876965d574"),
    ("0aowwzs5lhjrceb3qp67ahp0rd1l1etg", 3_838_903_983, "9f1b7f5aae01b13f4bc8e2c44a4b8ef6"),
    ("v5e3goj22zr6h8tzualxfsqlqaygfbsn", 3_935_496_531, "1861f3cd0ef7734df8104f2b0309023b"),
    ("asi7ikud9jwnkrnkj99jnpfkjdes7l6l", 3_986_301_172, "456b53a8b351afd92a35bc41444c58c8"),
    ("jn1b4mw4n6lnh74ovmcjb8y48h8xj07n", 4_016_328_426, "1075121ea20a137b87f290d6a4a5965e"),
    ("tvpxmn7qyrgl0w8wfh9kqfjskv6nmm1j", 4_018_347_353, "b61f34cec3aa69f295fbb593cbd9d443"),
    ("upyy3ml7qdumlgk2rfcvlb9k6gvqq2pj", 4_111_327_929, "442a3caa61ae9b64e61c561294d1e183"),
    ("l6nilvfa9cg3s28tqv1qc1olm3gnz54p", 4_181_556_296, "09ec81c4c31e32858ad8cf965c494b74"),
    ("hhq8fkdgvcari67vfhs7ppg2w6ni4jze", 4_187_084_020, "499aefc67207a5a97692424cf5dbeed5"),
    ("ioqwiy20ihqwyr8pf4c24eazhh281pbu", 2_914_187_733, "dc9fda1757c2de0032b63347a7d2895c"),
)

COLLECTIONS: Mapping[str, Collection] = {
    "openi": Collection(
        page="https://openi.nlm.nih.gov/faq#collection",
        terms="Open-i, Indiana University chest radiographs: CC BY-NC-ND 4.0, as each report says "
        "(https://creativecommons.org/licenses/by-nc-nd/4.0/). Name the source, no commercial use, pass on "
        "no altered copy. Cite Demner-Fushman et al., J Am Med Inform Assoc 2016; 23(2): 304-310.",
        tables=(
            PublishedFile(
                "NLMCXR_reports.tgz",
                ("NLMCXR_reports.tgz", "ecgen-radiology/*.xml", "*/ecgen-radiology/*.xml"),
                _OPENI + "NLMCXR_reports.tgz",
                1_112_632,
                "sha256:8fb6de7eec73d8c3665067ad4bb003ccd57f971ae316d2642e1627ac7268667a",
            ),
        ),
        films={
            "png": (
                PublishedFile("NLMCXR_png.tgz", _OPENI_FILMS, _OPENI + "NLMCXR_png.tgz", folder="NLMCXR_png"),
            ),
            "dicom": (
                PublishedFile(
                    "NLMCXR_dcm.tgz",
                    ("NLMCXR_dcm/*",),
                    _OPENI + "NLMCXR_dcm.tgz",
                    80_694_582_486,
                    folder="NLMCXR_dcm",
                ),
            ),
        },
    ),
    "nih": Collection(
        page="https://nihcc.app.box.com/v/ChestXray-NIHCC",
        terms="NIH ChestX-ray14: use is not restricted (FAQ of the collection, question 4). Link to "
        "https://nihcc.app.box.com/v/ChestXray-NIHCC, acknowledge the NIH Clinical Center as the provider, "
        "and cite Wang et al., ChestX-ray8, IEEE CVPR 2017: 3462-3471.",
        tables=(
            PublishedFile("Data_Entry_2017_v2020.csv", ("Data_Entry_2017*.csv",)),
            PublishedFile("train_val_list.txt", ("train_val_list.txt",)),
            PublishedFile("test_list.txt", ("test_list.txt",)),
        ),
        films={
            "png": tuple(
                PublishedFile(
                    f"images_{number:03d}.tar.gz",
                    (f"images_{number:03d}/**/*.png", "images/*.png"),
                    f"{_BOX}{address}.gz",
                    size,
                    f"md5:{digest}",
                    f"images_{number:03d}",
                )
                for number, (address, size, digest) in enumerate(_NIH_ARCHIVES, start=1)
            )
        },
    ),
}
