"""Remote models: the reference server's own numbers come back, and a wrong answer has one clear outcome."""

from __future__ import annotations

import email.policy
import gzip
import json
import socket
import socketserver
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator
from schemathesis import openapi

from dicom_node.config.sections import ResultSettings
from dicom_node.errors import ConfigurationError
from dicom_node.results.report import Source
from models.errors import (
    ModelChanged,
    ModelError,
    ModelUnavailable,
    PredictionError,
    RemoteModelError,
    UsageError,
)
from models.explain.methods import draw_heatmaps, objection
from models.processing.types import Film, Study
from models.remote.conformance_check import check_model
from models.remote.predictor import RemotePredictor
from models.remote.transport import TransportLimits
from tests.support import factories
from tests.support.certificates import Authority
from tests.support.drawn_studies import draw_study
from tests.support.peers import free_port
from tests.support.remote_model import (
    CONTRACT,
    MODEL,
    REFERENCE,
    Answer,
    as_json,
    prediction,
    reference_server,
    scripted,
)
from worker.report_builder import REMOTE_PARAMETER, build_report
from worker.supplementary_explanations import (
    NO_EXPLANATIONS,
    check_page_methods,
    make_supplementary_explanations,
)

QUICK = TransportLimits(connect_seconds=2, seconds=2, retries=0, pause_seconds=0.01)
ONE = Study((Film("1.2.3", np.full((5, 7), 0.5, np.float32)),))
MIB = 2**20


def connect(url: str, **options: Any) -> RemotePredictor:
    return RemotePredictor(url, **{"limits": QUICK, **options})


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with reference_server() as url:
        # The process starts meanwhile: what does not answer yet is asked again.
        connect(url, limits=TransportLimits(retries=10, pause_seconds=0.2)).check_health()
        yield url


@pytest.fixture(scope="module")
def own(address: str) -> dict[str, Any]:
    """Names of the reference server, without its server."""
    source = REFERENCE.read_text().rpartition("ThreadingHTTPServer(")[0]
    names: dict[str, Any] = {"__file__": str(REFERENCE)}
    exec(compile(source, str(REFERENCE), "exec"), names)
    return names


@pytest.fixture(scope="module")
def contract() -> dict[str, Any]:
    return yaml.safe_load(CONTRACT.read_text())


def validate(contract: dict[str, Any], schema: str, value: Any) -> None:
    Draft202012Validator({"$ref": f"#/components/schemas/{schema}", **contract}).validate(value)


def test_scores_and_maps_are_those_that_the_server_computes(address: str, own: dict[str, Any]) -> None:
    study = draw_study(3)
    predictor = connect(address)
    (traced,) = predictor.trace([study])
    rows = []
    for place, film in enumerate(study.films, start=1):
        raw = np.rint(film.pixels * 65535).astype("<u2").tobytes()
        entry = {"id": str(place), "rows": film.pixels.shape[0], "columns": film.pixels.shape[1]}
        rows.append(own["read_film"](entry, raw)["scores"])
    for column, finding in enumerate(traced.prediction.findings):
        assert finding.film_scores == tuple(row[column] for row in rows)
        assert finding.score == pytest.approx(np.mean(rows, axis=0)[column], abs=1e-15)
    heart, bright = traced.prediction.findings
    assert (heart.key, heart.probability, heart.threshold) == ("cardiomegaly", None, 0.5)
    assert (bright.key, bright.probability, bright.threshold) == ("bright", bright.score, 0.6)
    maps = draw_heatmaps(predictor, traced, ["bright", "cardiomegaly"])
    assert [(each.key, each.film, each.method) for each in maps] == [
        ("bright", "3.front", "given"),
        ("bright", "3.side", "given"),
    ]
    assert [each.values.shape for each in maps] == [film.pixels.shape for film in study.films]
    assert all(float(each.grid.max()) == 1 for each in maps)
    # Where the film is brightest, the map is.
    bins = [study.films[0].pixels[:144, :120].reshape(8, 18, 8, 15).mean((1, 3)), maps[0].grid]
    assert np.corrcoef(bins[0].ravel(), bins[1].ravel())[0, 1] > 0.9
    assert "gives its own heat maps alone" in objection(predictor, "gradcam")
    with pytest.raises(UsageError, match="runs elsewhere"):
        draw_heatmaps(predictor, traced, ["bright"], method="ig")


def test_the_reference_server_conforms(address: str) -> None:
    checks = list(check_model(lambda: connect(address)))
    assert [each.name for each in checks] == [
        "describe",
        "health",
        "predict",
        "repeat",
        "films alone",
        "most films",
        "maps",
    ]
    assert all(each.ok for each in checks), checks


def test_the_document_describes_the_reference_server(
    address: str, contract: dict[str, Any], own: dict[str, Any]
) -> None:
    openapi.from_path(str(CONTRACT)).validate()
    validate(contract, "Model", own["MODEL"])
    with scripted(lambda _count: as_json(prediction(2)), model=lambda _count: as_json(MODEL)) as model:
        connect(model.url).predict([draw_study(1)], views={"1.front": "frontal"})
        described = form(model.asked[-1])
    validate(contract, "Study", json.loads(described["study"]))
    validate(contract, "Prediction", prediction(2))
    entries = [{"id": "1", "rows": 40, "columns": 50}]
    film = own["read_film"](entries[0], bytes(4000))
    validate(contract, "Prediction", {**prediction(1), "films": [film]})
    broken = {**own["MODEL"], "digest": "no"}
    with pytest.raises(Exception, match="does not match"):
        validate(contract, "Model", broken)


def form(asked: tuple[str, str, dict[str, str], bytes]) -> dict[str, bytes]:
    """Parts of a request by name."""
    _, _, headers, body = asked
    whole = message_from_bytes(
        f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body, policy=email.policy.HTTP
    )
    return {
        part.get_param("name", header="Content-Disposition"): part.get_payload(decode=True)
        for part in whole.iter_parts()
    }


def test_films_are_sent_as_arrays_and_without_their_identifiers() -> None:
    with scripted() as model:
        connect(model.url).predict([ONE], views={"1.2.3": "lateral"})
        method, path, headers, body = model.asked[-1]
    parts = form(model.asked[-1])
    assert (method, path) == ("POST", "/v1/predict")
    assert int(headers["Content-Length"]) == len(body)
    assert b"1.2.3" not in body
    assert json.loads(parts["study"]) == {
        "contract": 1,
        "films": [{"id": "1", "view": "lateral", "rows": 5, "columns": 7}],
        "white": 65535,
        "text": None,
        "maps": False,
    }
    assert np.array_equal(np.frombuffer(parts["1"], "<u2"), np.full(35, 32768))


def test_dicom_files_are_sent_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "film.dcm"
    file.write_bytes(bytes(128) + b"DICM" + bytes(range(256)) * 9000)
    reads = {**MODEL, "inputs": {"films": "dicom", "most_films": 1, "text": "required"}}
    with scripted(model=lambda _count: as_json(reads)) as model:
        predictor = connect(model.url)
        study = Study(ONE.films, "Cough")
        predictor.predict([study], files={"1.2.3": file})
        parts = form(model.asked[-1])
        assert parts["1"] == file.read_bytes()
        assert json.loads(parts["study"])["text"] == "Cough"
        for wrong, files, said in (
            (ONE, {"1.2.3": file}, "needs the study's text"),
            (study, {}, "reads DICOM files, and film 1.2.3 has none"),
            (study, {"1.2.3": tmp_path / "lost.dcm"}, "lost.dcm: No such file"),
            (Study(draw_study().films, "x"), {}, "reads 1 films of a study, and this one has 2"),
        ):
            with pytest.raises(PredictionError, match=said):
                predictor.predict([wrong], files=files)
        assert len(model.asked) == 2  # nothing more was sent


def many_scores() -> Iterator[bytes]:
    yield b'{"contract": 1, "films": [{"id": "1", "scores": ['
    for _ in range(1000):
        yield b"0.5, " * 1_000_000


def drops() -> Iterator[bytes]:
    while True:
        time.sleep(0.05)
        yield b" "


HTML = {"Content-Type": "text/html; charset=utf-8"}
WRONG: dict[str, tuple[Answer, type[ModelError], str]] = {
    "html": (
        Answer(b"<html>", headers=HTML),
        RemoteModelError,
        "answers 'text/html' and not application/json",
    ),
    "html as json": (Answer(b"<html>"), RemoteModelError, "is no JSON; it begins with '<html>'"),
    "no type": (Answer(b"{}", headers={}), RemoteModelError, "answers '' and not application/json"),
    "order": (as_json(prediction(labels=["Nodule", "cardiomegaly"])), RemoteModelError, "another order"),
    "label": (as_json(prediction(labels=["cardiomegaly", "gloom"])), RemoteModelError, "'gloom' stands in"),
    "films": (as_json(prediction(3)), RemoteModelError, "holds 3 films, and 1 were sent"),
    "scores": (
        as_json({**prediction(), "films": [{"id": "1", "scores": [0.5]}]}),
        RemoteModelError,
        "holds 1 scores for film 1, and there are 2",
    ),
    "nan": (
        as_json({**prediction(), "films": [{"id": "1", "scores": [float("nan"), 0]}]}),
        RemoteModelError,
        "the score of cardiomegaly for film 1 is nan",
    ),
    "range": (
        as_json({**prediction(), "films": [{"id": "1", "scores": [0, 7]}]}),
        RemoteModelError,
        "the score of Nodule for film 1 is 7, not a number within 0 and 1",
    ),
    "version": (
        as_json(prediction(version="2.0.0")),
        ModelChanged,
        "its version is '2.0.0' now, and was 1.2.3",
    ),
    "digest": (as_json(prediction(digest="cd" * 32)), ModelChanged, "its digest is 'cdcd"),
    "redirect": (
        Answer(status=307, headers={"Location": "http://127.0.0.1:1/"}),
        RemoteModelError,
        r"a redirect \(307\), which is not followed",
    ),
    "compressed": (
        Answer(gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}),
        RemoteModelError,
        "is compressed",
    ),
    "refused": (
        Answer(b'{"error": "no film\\u001b[2J"}', 422),
        RemoteModelError,
        r"answers 422: no film\\x1b\[2J",
    ),
    "broken": (Answer(b"oops", 500, HTML), RemoteModelError, "it answers 500$"),
    "token": (Answer(b"", 401, HTML), RemoteModelError, "answers 401; set the file of its token"),
    "path": (Answer(b"", 404, HTML), RemoteModelError, "answers 404; is this the address of a model"),
    "busy": (Answer(b"", 503, HTML), ModelUnavailable, "answers 503 and can read nothing now"),
    "drops": (Answer(drops), ModelUnavailable, "did not answer in time"),
    "short": (
        Answer(lambda: [b"{"], headers={"Content-Type": "application/json", "Content-Length": "9"}),
        ModelUnavailable,
        "ended the connection before its answer did",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_answer_has_one_outcome(kind: str) -> None:
    answer, error, said = WRONG[kind]
    with scripted(lambda _count: answer) as model:
        predictor = connect(model.url)
        begun = time.monotonic()
        with pytest.raises(ModelError, match=said) as raised:
            predictor.predict([ONE])
        assert time.monotonic() - begun < 6
        assert type(raised.value) is error
        text = str(raised.value)
        assert text.startswith(f"remote model {model.url}: ")
        assert text.isprintable()
        assert text.isascii()


def test_an_endless_answer_is_given_up_at_its_limit() -> None:
    limits = TransportLimits(seconds=60, retries=0, answer_bytes=4 * MIB)
    with scripted(lambda _count: Answer(many_scores)) as model:
        predictor = connect(model.url, limits=limits)
        tracemalloc.start()
        try:
            with pytest.raises(RemoteModelError, match=f"longer than {4 * MIB} bytes"):
                predictor.predict([ONE])
            # The server makes its pieces of 5 MB in this process too.
            assert tracemalloc.get_traced_memory()[1] < 40 * MIB
        finally:
            tracemalloc.stop()


def test_an_answer_that_says_it_is_too_long_is_not_read() -> None:
    headers = {"Content-Type": "application/json", "Content-Length": str(10**10)}
    with scripted(lambda _count: Answer(lambda: [b"{"], headers=headers)) as model:
        predictor = connect(model.url)
        with pytest.raises(RemoteModelError, match="longer than"):
            predictor.predict([ONE])


def test_a_model_that_is_busy_is_asked_again() -> None:
    limits = TransportLimits(connect_seconds=2, seconds=2, retries=2, pause_seconds=0.01)
    busy = Answer(b"", 503, {"Content-Type": "text/plain", "Retry-After": "0"})
    with scripted(lambda count: busy if count < 2 else as_json(prediction())) as model:
        predictor = connect(model.url, limits=limits)
        (read,) = predictor.predict([ONE])
        assert read.findings[0].score == 0.75
        assert [path for _, path, _, _ in model.asked].count("/v1/predict") == 3
        bodies = [form(asked) for asked in model.asked if asked[1] == "/v1/predict"]
        assert bodies[0] == bodies[1] == bodies[2]
    with scripted(lambda _count: busy) as model:
        predictor = connect(model.url, limits=limits)
        with pytest.raises(ModelUnavailable):
            predictor.predict([ONE])
        assert [path for _, path, _, _ in model.asked].count("/v1/predict") == 3


def test_a_refusal_is_not_asked_again() -> None:
    limits = TransportLimits(retries=5, pause_seconds=0.01)
    with scripted(lambda _count: Answer(b"", 422, HTML)) as model:
        predictor = connect(model.url, limits=limits)
        with pytest.raises(RemoteModelError):
            predictor.predict([ONE])
        assert [path for _, path, _, _ in model.asked].count("/v1/predict") == 1


def test_nobody_answers() -> None:
    with pytest.raises(ModelUnavailable, match="cannot be reached: Connection refused"):
        connect(f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        (b"", ModelUnavailable, "did not answer in time|ended the connection"),
        (b"220 mail.example ESMTP\r\n", RemoteModelError, "its answer is no HTTP: BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200, RemoteModelError, "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, RemoteModelError, "no HTTP: LineTooLong"),
    ],
    ids=["nothing", "mail", "many fields", "long field"],
)
def test_what_speaks_no_http(said: bytes, error: type[ModelError], text: str) -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(said)
            self.request.settimeout(5)
            self.request.recv(1)  # until the client has gone

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with pytest.raises(error, match=text):
                connect(f"http://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_reads_nothing_ends_in_time() -> None:
    big = Study((Film("x", np.zeros((4000, 4000), np.float32)),))
    with scripted() as model, socket.create_server(("127.0.0.1", 0)) as deaf:
        predictor = connect(model.url)
        predictor._transport = connect_to(predictor, deaf.getsockname()[1])
        begun = time.monotonic()
        with pytest.raises(ModelUnavailable, match="did not answer in time"):
            predictor.predict([big])
        assert time.monotonic() - begun < 6


def connect_to(predictor: RemotePredictor, port: int) -> Any:
    """Transport to another port, for a model that was described by the first."""
    from models.remote.address import parse_address
    from models.remote.transport import HttpTransport

    return HttpTransport(parse_address(f"http://127.0.0.1:{port}"), limits=QUICK)


def test_tls_and_token(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    token = tmp_path / "token"
    token.write_text("first\n")
    with scripted(tls=authority.issue("model")) as model:
        predictor = connect(model.url, tls_ca=authority.path, token_file=token)
        assert model.asked[-1][2]["Authorization"] == "Bearer first"
        token.write_text("second")
        predictor.predict([ONE])
        assert model.asked[-1][2]["Authorization"] == "Bearer second"
        token.write_text("two words")
        with pytest.raises(RemoteModelError, match="must hold one token"):
            predictor.predict([ONE])
        token.unlink()
        with pytest.raises(RemoteModelError, match="token: No such file"):
            predictor.predict([ONE])
        for untrusted in (None, other.path):
            with pytest.raises(RemoteModelError, match="its certificate is not trusted"):
                connect(model.url, tls_ca=untrusted)
        with pytest.raises(RemoteModelError, match=r"certificates .*: "):
            connect(model.url, tls_ca=tmp_path / "none.pem")
        named = model.url.replace("127.0.0.1", "localhost")
        with pytest.raises(RemoteModelError, match=r"not trusted.*not valid for 'localhost'"):
            connect(named, tls_ca=authority.path)


def test_no_proxy_of_the_environment_sees_a_film(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with scripted() as model:
        assert connect(model.url).predict([ONE])


def right(count: int) -> Answer:
    """Right answers to the requests of the check, in their order."""
    return as_json(prediction((3, 3, 1, 4, 3)[min(count, 4)]))


def varied(count: int) -> Answer:
    table = prediction((3, 3, 1, 4, 3)[min(count, 4)])
    if count == 1:
        table["films"][0]["scores"] = [0.7, 0.25]
    return as_json(table)


@pytest.mark.parametrize(
    ("options", "failed"),
    [
        ({"model": lambda _count: as_json({**MODEL, "contract": 3})}, "describe"),
        ({"health": lambda _count: Answer(b"", 503, HTML)}, "health"),
        ({"health": lambda _count: as_json({"status": "meh"})}, "health"),
        ({"predict": lambda _count: as_json(prediction(2))}, "predict"),
        ({"predict": varied}, "repeat"),
        ({"model": lambda _count: as_json({**MODEL, "maps": True})}, "maps"),
    ],
    ids=["description", "busy", "unwell", "films", "other scores", "no maps"],
)
def test_the_check_finds_what_is_wrong(options: dict[str, Callable[[int], Answer]], failed: str) -> None:
    with scripted(**{"predict": right, **options}) as model:  # type: ignore[arg-type]
        checks = list(check_model(lambda: connect(model.url)))
    assert failed in [each.name for each in checks if each.ok is False]
    names = [each.name for each in checks if each.ok is False]
    assert names == [failed]


def test_a_model_of_dicom_files_is_checked_with_some(tmp_path: Path) -> None:
    reads = {**MODEL, "inputs": {"films": "dicom", "most_films": 4, "text": "optional"}}
    files = {str(place): tmp_path / f"{place}.dcm" for place in range(3)}
    for file in files.values():
        file.write_bytes(bytes(128) + b"DICM")
    with scripted(right, model=lambda _count: as_json(reads)) as model:
        untried = list(check_model(lambda: connect(model.url)))
        assert [(each.name, each.ok) for each in untried][-1] == ("predict", None)
        assert all(each.ok for each in check_model(lambda: connect(model.url), files))
        asked = form(model.asked[-1])
    assert json.loads(asked["study"])["text"] == "Cough and fever."
    assert asked["1"] == files["0"].read_bytes()


def test_a_report_says_that_the_model_runs_elsewhere(address: str) -> None:
    predictor = connect(address)
    study = Study(tuple(replace(film, identifier=f"1.2.3.{n}") for n, film in enumerate(draw_study(2).films)))
    (traced,) = predictor.trace([study])
    report = build_report(
        study_instance_uid="1.2.3",
        revision=1,
        created=datetime.now(UTC),
        sources=tuple(
            Source(factories.film(SOPInstanceUID=film.identifier), analysed=True) for film in study.films
        ),
        prediction=traced.prediction,
        labels=predictor.labels,
        heatmaps=draw_heatmaps(predictor, traced, ["bright"]),
        runtime=predictor.runtime,
        stand_in=predictor.session.stand_in,
    )
    assert report.algorithm is not None
    assert report.algorithm.parameters[0] == f"weights_sha256={predictor.identity.weights_sha256}"
    assert report.algorithm.parameters[-1] == REMOTE_PARAMETER
    heart, bright = report.findings
    assert (heart.certainty, bright.certainty) == (None, bright.score)
    assert {each.method for each in bright.saliency} == {"Heat map of the model itself"}
    settings = ResultSettings(page_methods=("ig",))
    with pytest.raises(ConfigurationError, match="runs elsewhere"):
        check_page_methods(predictor, settings)
    text = replace(traced, study=replace(traced.study, text="Cough"))
    assert make_supplementary_explanations(predictor, text, (), ResultSettings()) == NO_EXPLANATIONS
    assert predictor.session.describe() == {"device": f"remote, {address}"}
    with pytest.raises(UsageError, match="reads whole studies"):
        predictor.session.run([], None)


@pytest.mark.parametrize("code", [0, 1])
def test_the_command_says_a_line_for_each_check(address: str, code: int) -> None:
    from typer.testing import CliRunner

    from dicom_node.cli.models import app

    url = address if code == 0 else f"http://127.0.0.1:{free_port()}"
    done = CliRunner().invoke(app, ["check", url])
    assert done.exit_code == code, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == (7 if code == 0 else 1)
    assert all(line.startswith("ok" if code == 0 else "FAILED") for line in lines)
    told = CliRunner().invoke(app, ["check", url, "--json"])
    table = json.loads(told.stdout)
    assert table["conforms"] is (code == 0)
    assert len(table["checks"]) == len(lines)
