"""Vocabulary: codes of the labels, and the headings that feed them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from models.errors import VocabularyError
from models.labels.vocabulary import Code, MeshRule, load_vocabulary, parse_vocabulary, verhoeff

VOCABULARY = load_vocabulary()
CODES = [
    code
    for label in VOCABULARY.labels.values()
    for code in (label.code, label.site, label.qualifier)
    if code is not None
]


@pytest.mark.parametrize("number", ["2363", "8186001", "60046008", "46621007", "95436008"])
def test_a_number_with_its_check_digit_passes(number):
    assert verhoeff(number)


@pytest.mark.parametrize(
    "number", ["2364", "95436003", "60567007", "9494007", "196121004", "78381009", "129614006"]
)
def test_codes_that_others_published_wrongly_fail_the_check_digit(number):
    assert not verhoeff(number)


@pytest.mark.parametrize("text", ["", "12a", "１２", "-1"])
def test_what_is_no_number_has_no_check_digit(text):
    # The empty string has no digit that could be one.
    assert not verhoeff(text)


def test_every_snomed_code_passes_its_check_digit():
    snomed = [code for code in CODES if code.scheme == "SCT"]
    assert len(snomed) > 25
    assert all(verhoeff(code.value) for code in snomed)


def test_a_snomed_code_with_a_wrong_check_digit_cannot_be_made():
    with pytest.raises(VocabularyError, match="check digit"):
        Code("95436003", "SCT", "Lung consolidation")


@pytest.mark.parametrize(
    "parts", [("x" * 17, "99CXRNODE", "a"), ("a", "", "a"), ("a", "99CXRNODE", "m" * 65)]
)
def test_a_code_that_dicom_cannot_hold_cannot_be_made(parts):
    with pytest.raises(VocabularyError, match="characters"):
        Code(*parts)


def test_only_known_coding_schemes_are_used():
    assert {code.scheme for code in CODES} == {"SCT", "DCM", "99CXRNODE"}


def test_a_private_code_means_one_thing_only():
    meanings = {}
    for code in CODES:
        assert meanings.setdefault((code.scheme, code.value), code.meaning) == code.meaning


def test_a_code_and_its_site_belong_to_one_label_only():
    concepts = [(label.code.value, label.site, label.qualifier) for label in VOCABULARY.labels.values()]
    assert len(set(concepts)) == len(concepts)


def test_cardiomegaly_is_not_the_septal_foramen():
    assert VOCABULARY.labels["cardiomegaly"].code.value == "8186001"


def test_the_list_of_findings_has_its_35_in_order():
    keys = VOCABULARY.keys("findings")
    assert len(keys) == 35
    assert keys[:4] == ("normal", "degenerative_change", "lesion", "hyperinflation")
    assert keys[-1] == "bronchiolitis"


@pytest.mark.parametrize(
    ("majors", "keys"),
    [
        (["normal"], {"normal"}),
        (["normal", "Cardiomegaly"], {"cardiomegaly"}),
        (["Lung/hypoinflation"], {"volume_loss"}),
        (["Lung/bilateral/hyperdistention/mild"], {"hyperinflation"}),
        (["Lung/azygos lobe"], set()),
        (["Calcified Granuloma/lung/upper lobe/right"], {"calcified_granuloma"}),
        (["Granuloma/lung"], {"lesion"}),
        (["Cicatrix/lung/base/left"], {"fibrosis"}),
        (["Pulmonary Fibrosis/apex/right/mild"], {"pulmonary_fibrosis", "fibrosis"}),
        (["Thickening/pleura/apex"], {"pleural_thickening", "thickening"}),
        (["Thickening/bronchi"], {"thickening"}),
        (["Fractures, Bone/ribs/left/healed"], {"fractures", "rib_fracture"}),
        (["Fractures, Bone/clavicle"], {"fractures"}),
        (["Subcutaneous  Emphysema/neck"], {"subcutaneous_emphysema"}),
        (["Thoracic vertebrae/Degenerative/mild"], {"degenerative_change"}),
        (["Pulmonary Artery/bilateral/enlarged"], {"pulmonary_artery_enlargement"}),
        (["Pulmonary Artery/hilum"], set()),
        (["Hydropneumothorax/right"], {"pneumothorax", "pleural_effusion", "effusion"}),
        (["Pericardial Effusion"], {"effusion"}),
        (["Bullous Emphysema/lung"], {"emphysema", "bullous_disease"}),
        (["Opacity/lung/lingula", "Nodule/lung"], {"lesion", "nodule"}),
        (["Technical Quality of Image Unsatisfactory"], set()),
    ],
)
def test_headings_feed_their_labels_and_no_others(majors, keys):
    findings = set(VOCABULARY.keys("findings"))
    assert VOCABULARY.derive(majors) & findings == keys


@pytest.mark.parametrize(
    ("majors", "groups"),
    [
        (["normal"], {"normal"}),
        (["Cardiomegaly", "normal"], {"cardiac_group"}),
        (["Markings/bronchovascular"], {"interstitial_group"}),
        (["Lung/hyperdistention"], {"obstructive_group"}),
        (["Lung/hypoinflation"], set()),
        (["Hydropneumothorax/right"], {"pleural_group", "air_leak_group"}),
        (["Scoliosis", "Thoracic Vertebrae/degenerative"], {"deformity_group", "degenerative_group"}),
        (["Catheters, Indwelling/right"], set()),
        (["Aorta/tortuous", "Atherosclerosis/aorta"], {"aortic_group"}),
    ],
)
def test_headings_feed_disease_groups(majors, groups):
    assert VOCABULARY.derive(majors) & set(VOCABULARY.keys("groups")) == groups


@pytest.mark.parametrize("majors", [["normal"], ["Cardiomegaly"], ["normal", "Cardiomegaly"], ["Sutures"]])
def test_every_report_is_either_normal_or_abnormal(majors):
    assert len(VOCABULARY.derive(majors) & {"normal", "abnormal"}) == 1


def test_the_tables_of_the_nih_name_their_fourteen_labels():
    columns = [VOCABULARY.labels[key].nih for key in VOCABULARY.keys("nih")]
    assert len(set(columns)) == 14
    assert None not in columns
    assert VOCABULARY.from_nih(["Effusion", "Pleural_Thickening"]) == {
        "pleural_effusion",
        "pleural_thickening",
    }
    assert VOCABULARY.from_nih(["No Finding"]) == frozenset()
    with pytest.raises(VocabularyError, match="'Infiltrate'"):
        VOCABULARY.from_nih(["Infiltrate"])


def test_hyperinflation_and_volume_loss_are_never_taken_for_each_other():
    assert "volume_loss" not in VOCABULARY.derive(["Lung/hyperdistention"])
    assert "hyperinflation" not in VOCABULARY.derive(["Lung/hypoinflation"])


@pytest.mark.parametrize("majors", [["No Indexing"], ["no indexing", "normal"], [""], []])
def test_a_report_that_was_not_indexed_says_nothing(majors):
    assert not VOCABULARY.indexed(majors)


def test_an_unknown_key_or_list_is_named():
    with pytest.raises(VocabularyError, match="'pneumonitis'"):
        VOCABULARY.select(["normal", "pneumonitis"])
    with pytest.raises(VocabularyError, match="'nih15'"):
        VOCABULARY.keys("nih15")


@pytest.mark.parametrize("rule", ["", "*", "a/b/c", "a/"])
def test_a_rule_that_says_nothing_is_refused(rule):
    with pytest.raises(VocabularyError, match="mesh rule"):
        MeshRule.parse(rule)


GOOD = """
excluded = ["No Indexing"]
sole = "normal"
contrary = "abnormal"
[lists]
all = ["normal"]
[labels.normal]
name = "Normal"
mesh = ["normal"]
code = { value = "17621005", scheme = "SCT", meaning = "Normal" }
[labels.abnormal]
name = "Abnormal"
mesh = []
code = { value = "263654008", scheme = "SCT", meaning = "Abnormal" }
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[lists]", "[lists"), "not TOML"),
        (('sole = "normal"', ""), "lacks 'sole'"),
        (('name = "Normal"', 'name = "Normal"\ncolour = "red"'), "colour"),
        (('all = ["normal"]', 'all = ["normal", "normal"]'), "twice"),
        (('all = ["normal"]', 'all = ["unusual"]'), "'unusual'"),
        (('meaning = "Normal"', 'meaning = "Normal", version = "1"'), "version"),
        (("17621005", "17621006"), "check digit"),
    ],
)
def test_a_wrong_vocabulary_is_refused_in_one_sentence(change, message):
    parse_vocabulary(GOOD)
    with pytest.raises(VocabularyError, match=message) as caught:
        parse_vocabulary(GOOD.replace(*change))
    assert "\n" not in str(caught.value)


@pytest.mark.films
def test_the_index_of_open_i_gives_the_expected_counts(films_root: Path):
    with (films_root / "openi" / "index.csv").open(newline="", encoding="utf-8") as file:
        majors = {row["uid"]: row["mesh_major"].split("|") for row in csv.DictReader(file)}
    indexed = [VOCABULARY.derive(found) for found in majors.values() if VOCABULARY.indexed(found)]
    counts = {key: sum(key in found for found in indexed) for key in VOCABULARY.keys("findings")}
    assert len(indexed) == 3168
    expected = {
        "normal": 1135, "cardiomegaly": 304, "volume_loss": 252, "hyperinflation": 181, "hernia": 40,
        "calcified_granuloma": 216, "increased_lung_markings": 137, "bronchiolitis": 1,
    }  # fmt: skip
    assert {key: counts[key] for key in expected} == expected
