"""Facts of patients: what is impossible, unknown or contradicted is left out."""

from __future__ import annotations

import pytest

from models.data.metadata import agreed, sex, sex_named_in, whole_years, whole_years_on


@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("58", "58"),
        ("058Y", "58"),
        (" 7y ", "7"),
        ("011M", "0"),
        ("014M", "1"),
        ("003W", "0"),
        ("400D", "1"),
        ("0", "0"),
        ("120", "120"),
        ("414", ""),
        ("", ""),
        ("-3", ""),
        ("Y", ""),
        ("58.5", ""),
        ("old", ""),
    ],
)
def test_ages(age: str, years: str):
    assert whole_years(age) == years


@pytest.mark.parametrize(
    ("birth", "study", "years"),
    [
        ("19560820", "20110819", "54"),
        ("19560820", "20110821", "55"),
        ("20110819", "20110819", "0"),
        ("20110820", "20110819", ""),
        ("18560820", "20110819", ""),
        ("", "20110819", ""),
        ("19561399", "20110819", ""),
        ("1956", "20110819", ""),
    ],
)
def test_the_age_on_a_day(birth: str, study: str, years: str):
    assert whole_years_on(birth, study) == years


@pytest.mark.parametrize(
    ("said", "meant"), [("M", "M"), ("f", "F"), (" Female ", "F"), ("O", ""), ("", ""), ("MF", "")]
)
def test_sexes(said: str, meant: str):
    assert sex(said) == meant


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("XXXX-year-old male, cough.", "M"),
        ("XXXX-year-old FEMALE", "F"),
        ("Woman with chest pain", "F"),
        ("Man whose wife, a woman of 50, has tuberculosis", ""),
        ("Manic, admitted from a ladybird farm", ""),
        ("", ""),
    ],
)
def test_the_sex_that_a_text_names(text: str, named: str):
    assert sex_named_in(text) == named


def test_what_contradicts_or_is_empty_is_left_out():
    films = [{"age": "54", "maker": "A", "view": ""}, {"age": "54", "maker": "B"}, {"sex": "F"}]
    assert agreed(films) == {"age": "54", "sex": "F"}
    assert agreed([]) == {}
