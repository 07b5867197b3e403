from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config.served_models import SHORT_FORM, ModelRole
from dicom_node.config.settings import Settings, load_settings
from dicom_node.errors import ConfigurationError


def read(tmp_path: Path, text: str) -> Settings:
    config = tmp_path / "node.toml"
    config.write_text(text)
    return load_settings(config)


def test_without_models_the_bundle_of_the_worker_reads_alone(tmp_path: Path) -> None:
    (one,) = read(tmp_path, '[worker]\nbundle = "ours"\n').served_models
    assert (one.name, one.bundle, one.role) == (SHORT_FORM, "ours", ModelRole.PRIMARY)


def test_models_take_the_place_of_the_bundle_in_their_order(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        '[[models]]\nname = "a"\nbundle = "ours"\nview = ["frontal"]\n'
        '[[models]]\nname = "b"\nurl = "https://model.example"\nrole = "shadow"\n',
    )
    assert [each.name for each in settings.served_models] == ["a", "b"]
    assert [each.name for each in settings.primary_models] == ["a"]
    assert settings.first_bundle == "ours"
    again = Settings.model_validate(settings.model_dump())
    assert again.served_models == settings.served_models


def test_one_model_for_all_studies_has_no_conditions(tmp_path: Path) -> None:
    settings = read(tmp_path, '[[models]]\nname = "a"\nbundle = "ours"\ncalling_ae = ["ER"]\nmin_age = 18\n')
    (first,) = settings.with_one_model().served_models
    assert (first.bundle, first.calling_ae, first.min_age) == ("ours", (), None)
    (other,) = settings.with_one_model("theirs").served_models
    assert other.bundle == "theirs"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "models.0: give either bundle or url"),
        ('bundle = "x"\nurl = "https://m"', "models.0: give either bundle or url"),
        ('url = "http://model.example"', "http would send films unencrypted"),
        ('url = "https://u:p@model.example"', "url holds credentials"),
        ('url = "ftp://model.example"', "url must be the root of a service"),
        ('url = "https://model.example:99999"', "models.0: url: Port out of range"),
        ('bundle = "x"\ntoken_file = "t"', "have no effect without url"),
        ('bundle = "x"\nmin_age = 18\nmax_age = 18', "min_age must be less than max_age"),
        ('bundle = "x"\nrole = "main"', "models.0.role: must be 'primary' or 'shadow'"),
        (
            'bundle = "x"\nrole = "shadow"',
            "models: all are shadows, so nothing would be reported; give one role",
        ),
        (
            'bundle = "x"\n[[models]]\nname = "a"\nbundle = "y"',
            "models.1.name: 'a' is also the name of another",
        ),
        ('bundle = "x"\nvew = ["frontal"]', "vew"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, lines: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(tmp_path, f'[[models]]\nname = "a"\n{lines}\n')
    assert said in str(raised.value)


def test_films_may_go_unencrypted_to_this_machine(tmp_path: Path) -> None:
    assert read(tmp_path, '[[models]]\nname = "a"\nurl = "http://127.0.0.1:8000"\n').served_models[0].url
