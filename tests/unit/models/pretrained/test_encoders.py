"""Published encoders are read in their hubs' own layouts, whole and unaltered, and never run code."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import models
from models.errors import EncoderError
from models.pretrained.encoder_cache import (
    cached_names,
    describe_required_files,
    encoder_cache,
    encoder_folder,
    recommended_encoders,
)
from models.pretrained.encoders import Encoder, add_to_cache, choose_files, read_encoder, verify_checksums
from models.text.text_format import TextFormat
from models.text.tokenizer import Tokenizer
from tests.support.model_families import SPECIAL, SWIN, TEXT, VOCABULARY
from tests.support.published_weights import dense, write_bert, write_open_clip, write_timm

NAME = "someone/something"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of each layout; not to be changed."""
    root = tmp_path_factory.mktemp("published")
    write_bert(root / "bert")
    write_bert(root / "old", old=True)
    write_timm(root / "timm", SWIN["backbone"], SWIN["options"])
    write_open_clip(root / "open_clip")
    (root / "bare").mkdir()
    torch.save(dense(3).state_dict(), root / "bare" / "densenet121-0123abcd.pth")
    return root


@pytest.fixture
def bert(shelf: Path, tmp_path: Path) -> Path:
    """A text encoder, free to be spoilt."""
    return Path(shutil.copytree(shelf / "bert", tmp_path / "bert"))


@pytest.mark.parametrize(
    ("folder", "kind", "files"),
    [
        ("bert", "bert", ("model.safetensors", "config.json", "tokenizer.json")),
        ("old", "bert", ("pytorch_model.bin", "config.json", "vocab.txt")),
        ("timm", "timm", ("model.safetensors", "config.json")),
        (
            "open_clip",
            "open_clip",
            ("open_clip_model.safetensors", "open_clip_config.json", "tokenizer.json"),
        ),
        ("bare", "bare", ("densenet121-0123abcd.pth",)),
    ],
)
def test_every_layout_is_known_by_its_files(shelf: Path, folder: str, kind: str, files: tuple[str, ...]):
    encoder = read_encoder(shelf / folder)
    assert (encoder.kind, encoder.files) == (kind, files)
    state = encoder.state()
    assert state
    assert all(value.dtype == torch.float32 for value in state.values())
    assert (encoder.tokenizer() is None) == (folder in ("timm", "bare"))


def test_one_file_of_bare_weights_will_do(shelf: Path):
    encoder = read_encoder(shelf / "bare" / "densenet121-0123abcd.pth")
    assert encoder.kind == "bare"
    assert encoder.state().keys() == read_encoder(shelf / "bare").state().keys()


def test_weights_come_as_they_were_published(shelf: Path):
    expected = load_file(shelf / "bert" / "model.safetensors")
    found = read_encoder(shelf / "bert").state()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value)


def test_safetensors_go_before_a_pickle(bert: Path):
    torch.save({}, bert / "pytorch_model.bin")
    assert read_encoder(bert).files[0] == "model.safetensors"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no encoder in a known layout"),
        (("README.md", "flax_model.msgpack"), "no encoder in a known layout"),
        (("config.json", "tf_model.h5"), r"neither model\.safetensors nor pytorch_model\.bin"),
        (("open_clip_config.json", "model.safetensors"), r"neither open_clip_model\.safetensors"),
        (("one.pth", "two.pt"), "no encoder in a known layout"),
    ],
)
def test_what_is_missing_is_named(names: tuple[str, ...], message: str):
    with pytest.raises(EncoderError, match=message):
        choose_files(names, "the folder")


def test_open_clip_goes_before_a_configuration_of_transformers():
    names = (
        "config.json",
        "open_clip_config.json",
        "open_clip_pytorch_model.bin",
        "pytorch_model.bin",
        "vocab.txt",
    )
    assert choose_files(names, "") == ("open_clip_pytorch_model.bin", "open_clip_config.json", "vocab.txt")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"model_type": "roberta"}', "is roberta"),
        ("{}", "without model_type and architecture"),
        ("[1]", "no table"),
        ("{", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_another_kind_of_model_is_refused(bert: Path, config: str | bytes, message: str):
    (bert / "config.json").write_bytes(config if isinstance(config, bytes) else config.encode())
    with pytest.raises(EncoderError, match=message):
        read_encoder(bert)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(EncoderError, match="nowhere: No such file"):
        read_encoder(tmp_path / "nowhere")


class Attack:
    """Leaves a trace when it is unpickled."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self):
        return (Path.touch, (self.witness,))


def test_a_pickle_of_whole_objects_is_never_opened(tmp_path: Path):
    witness = tmp_path / "witness"
    torch.save({"weights": Attack(witness)}, tmp_path / "model.pt")
    with pytest.raises(EncoderError, match="could run code"):
        read_encoder(tmp_path / "model.pt").state()
    assert not witness.exists()
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert witness.exists()  # it would have


def test_a_whole_network_as_torchxrayvision_publishes_it_is_refused_with_what_to_do(tmp_path: Path):
    torch.save(dense(1), tmp_path / "nih.pt")
    with pytest.raises(EncoderError, match=r"torch\.save\(model\.state_dict\(\), FILE\)") as caught:
        read_encoder(tmp_path / "nih.pt").state()
    assert "\n" not in str(caught.value)
    torch.save(dense(1).state_dict(), tmp_path / "nih.pt")
    assert "features.conv0.weight" in read_encoder(tmp_path / "nih.pt").state()


def test_a_state_dict_inside_a_checkpoint_is_found(tmp_path: Path):
    torch.save({"epoch": 3, "state_dict": {"fc.weight": torch.ones(2, 2)}}, tmp_path / "one.pth")
    assert list(read_encoder(tmp_path / "one.pth").state()) == ["fc.weight"]


@pytest.mark.parametrize("content", [{"epoch": 3}, {}, [torch.ones(1)], {"a": torch.ones(1), "b": "text"}])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "one.pth")
    with pytest.raises(EncoderError, match="no state dict"):
        read_encoder(tmp_path / "one.pth").state()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x02}", b"PK\x03\x04" + bytes(30)])
def test_bytes_that_are_no_weights_are_one_sentence(bert: Path, name: str, content: bytes):
    (bert / "model.safetensors").unlink()
    (bert / name).write_bytes(content)
    with pytest.raises(EncoderError, match=name) as caught:
        read_encoder(bert).state()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(bert: Path, value: float):
    state = load_file(bert / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    state[name][2, 3] = value
    save_file(state, bert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=rf"{name} holds values that are not finite"):
        read_encoder(bert).state()


@pytest.mark.parametrize("cased", [False, True])
def test_a_tokenizer_is_made_of_the_vocabulary_as_transformers_makes_it(tmp_path: Path, cased: bool):
    """Whether it minds case is read off the words: nothing else tells it for ClinicalBERT."""
    from transformers import BertTokenizer

    words = (*VOCABULARY, "é", *(("Chest", "X", "##Ray") if cased else ("chest", "x", "##ray")))
    write_bert(tmp_path, old=True)
    (tmp_path / "vocab.txt").write_text("\n".join(dict.fromkeys(words)) + "\n", encoding="utf-8")
    definition = read_encoder(tmp_path).tokenizer()
    ours = Tokenizer(definition, TextFormat(max_length=14, pad_id=0))
    theirs = BertTokenizer(vocab=str(tmp_path / "vocab.txt"), do_lower_case=not cased)
    for text in ("Chest XRay, COUGH.", "résumé é", "no finding in the lungs", "unheard-of", "胸"):
        expected = theirs(text, truncation=True, max_length=14)["input_ids"]
        assert ours([text]).input_ids[0].tolist() == expected, text


def test_a_vocabulary_without_the_special_words_is_refused(tmp_path: Path):
    write_bert(tmp_path, old=True)
    (tmp_path / "vocab.txt").write_text("\n".join(word for word in VOCABULARY if word != "[CLS]"))
    with pytest.raises(EncoderError, match=r"no vocabulary of BERT: it has no \[CLS\]"):
        read_encoder(tmp_path).tokenizer()
    assert "[CLS]" in SPECIAL


def test_the_fields_of_a_text_tower_are_those_of_its_configuration(shelf: Path):
    fields = read_encoder(shelf / "bert").text_fields()
    assert {name: fields[name] for name in TEXT} == TEXT
    assert fields["layer_norm_eps"] == 1e-12
    with pytest.raises(EncoderError, match="timm is no text encoder"):
        read_encoder(shelf / "timm").text_fields()


def test_a_configuration_that_lacks_a_field_is_no_tower(bert: Path):
    config = json.loads((bert / "config.json").read_text())
    del config["hidden_act"]
    (bert / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="has no hidden_act"):
        read_encoder(bert).text_fields()


@pytest.fixture
def adopted(bert: Path, tmp_path: Path) -> Encoder:
    (bert / "README.md").write_text("not needed")
    return add_to_cache(bert, NAME, tmp_path / "cache")


def test_an_encoder_is_copied_with_its_hashes_and_without_the_rest(
    adopted: Encoder, tmp_path: Path, bert: Path
):
    assert (
        adopted.path == tmp_path / "cache" / "someone--something" == encoder_folder(NAME, tmp_path / "cache")
    )
    names = {file.name for file in adopted.path.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "SHA256SUMS"}
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["someone--something"]
    again = add_to_cache(bert, NAME, tmp_path / "cache")
    assert again == adopted


def test_the_hashes_are_those_that_sha256sum_checks(adopted: Encoder):
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=adopted.path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b": OK") == 3


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_one_changed_byte_is_noticed(adopted: Encoder, name: str):
    raw = bytearray((adopted.path / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (adopted.path / name).write_bytes(bytes(raw))
    with pytest.raises(EncoderError, match=f"{name} was altered"):
        read_encoder(adopted.path)


def test_a_missing_and_an_extra_file_are_noticed(adopted: Encoder):
    (adopted.path / "extra.py").write_text("")
    with pytest.raises(EncoderError, match=r"extra\.py is not among the hashes"):
        verify_checksums(adopted.path)
    (adopted.path / "extra.py").unlink()
    (adopted.path / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=r"tokenizer\.json is missing"):
        read_encoder(adopted.path)


@pytest.mark.parametrize("line", ["no hash", "0123  ../../etc/passwd"])
def test_hashes_that_are_none_are_refused(adopted: Encoder, line: str):
    with (adopted.path / "SHA256SUMS").open("a") as sums:
        sums.write(line + "\n")
    with pytest.raises(EncoderError, match="no hash and name"):
        read_encoder(adopted.path)


def test_what_cannot_be_read_is_not_adopted(bert: Path, tmp_path: Path):
    (bert / "model.safetensors").write_bytes(b"spoilt")
    with pytest.raises(EncoderError, match="no weights"):
        add_to_cache(bert, NAME, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_one_sentence(bert: Path, tmp_path: Path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(EncoderError, match="cannot be kept in"):
        add_to_cache(bert, NAME, tmp_path / "cache")


@pytest.mark.parametrize("name", ["bert", "../x/y", "a/..", "a/b/c", "/etc/passwd", "", "a b/c"])
def test_a_name_leads_nowhere_else(name: str, tmp_path: Path):
    with pytest.raises(EncoderError, match="like OWNER/NAME"):
        encoder_folder(name, tmp_path)


def test_the_cache_is_in_the_users_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert encoder_cache() == tmp_path / ".cache" / "dicom-node" / "encoders"


def test_the_files_to_bring_are_those_that_are_read():
    for name, tower in recommended_encoders().items():
        words = describe_required_files(name).replace(",", "").split()
        named = [word for word in words if "." in word]
        # The first of each pair of alternatives alone is already an encoder.
        chosen = choose_files([word for word in named if not word.endswith((".bin", ".txt"))], name)
        assert ("tokenizer.json" in chosen) == (not tower.endswith("image"))
        chosen = choose_files(
            [word for word in named if not word.endswith((".safetensors", "tokenizer.json"))], name
        )
        assert chosen[0].endswith(".bin")
    assert all(
        describe_required_files(name) in describe_required_files("someone/else")
        for name in recommended_encoders()
    )


def test_the_recommended_encoders_are_those_of_the_recipes():
    named = [
        source.removeprefix("hf:")
        for path in (Path(models.__file__).parent / "recipes").glob("*.toml")
        for source in tomllib.loads(path.read_text())["architecture"].get("towers", {}).values()
        if source.startswith("hf:")
    ]
    assert named
    assert recommended_encoders().keys() == set(named)
    assert recommended_encoders()["emilyalsentzer/Bio_ClinicalBERT"] == "crossattention: text"


def test_the_encoders_of_the_cache_are_listed_by_name(adopted: Encoder, tmp_path: Path):
    (tmp_path / "cache" / ".half--done").mkdir()
    (tmp_path / "cache" / "notes.txt").write_text("")
    assert cached_names(tmp_path / "cache") == [NAME]
    assert cached_names(tmp_path / "nowhere") == []
