"""Client of a DICOMweb service (PS3.18): STOW-RS for results, QIDO-RS and WADO-RS for priors."""

from __future__ import annotations

import contextlib
import io
import logging
import ssl
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import IO
from urllib.parse import quote

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.misc import is_dicom

from dicom_node.config.destinations import DicomwebDestination
from dicom_node.config.private_files import check_private
from dicom_node.config.sections import SenderSettings
from dicom_node.dicomweb.multipart import instance_files
from dicom_node.dicomweb.store_response import StoreAnswer
from dicom_node.dicomweb.transport import BoundedAdapter, BoundedSession
from dicom_node.dimse.client.query_retrieve import SERIES_KEYS, STUDY_KEYS
from dicom_node.dimse.client.storage_scu import ContextRequirement, StoreResponse
from dicom_node.dimse.commitment import InstanceReference
from dicom_node.dimse.status import meaning_of
from dicom_node.dimse.tls import client_context
from dicom_node.errors import BadInstance, InstanceDeferred, PeerError, PeerRejected, PeerUnavailable
from dicom_node.imaging import attributes
from dicom_node.imaging.transfer_syntaxes import ENCAPSULATED
from dicom_node.runtime.printable import printable
from dicom_node.store.files import HEAD_BYTES, data_set_offset
from dicom_node.store.states import Confirmation

# These libraries log addresses, which contain UIDs, and what services answer.
for _name in ("dicomweb_client", "python_multipart", "urllib3"):
    logging.getLogger(_name).setLevel(logging.ERROR)

_CONFLICT = 409  # the service rejected the instance (PS3.18 table 10.5.3-1)
# The request itself is wrong. All other failures, a wrong password too, can be corrected by a person.
_PERMANENT = frozenset({400, 406, 413, 415, 422})
# The service takes no instance now, whichever it is. Other failures may be about the one that was sent.
_SERVICE_AWAY = frozenset({401, 403, 404, 405, 407, 408, 429, 502, 503, 504})
_CREDENTIALS = "; give the destination a token_file, or user and password_file"
_SOP_INSTANCE_UID = "00080018"
_MAX_SERIES_BYTES = 2**30
_MAX_ODD_BYTES = 32 * 2**20  # of an instance that is read into memory, because its form is not PS3.10's


class DicomWebSession:
    """Session with one DICOMweb service; to be used by one thread at a time.

    Parameters
    ----------
    destination
        Settings of the service.
    settings
        Settings of the sender, which hold the time limits.

    Raises
    ------
    ConfigurationError
        When the certificates cannot be read, or others can read a secret.
    """

    def __init__(self, destination: DicomwebDestination, settings: SenderSettings) -> None:
        self.name = destination.url
        client_context(destination)  # raises at once when a certificate file is wrong
        for setting in ("token_file", "password_file"):
            if (secret := getattr(destination, setting)) is not None:
                check_private(secret, f"destination {destination.name}: {setting}")
        self._adapter = BoundedAdapter(self.name, settings.response_seconds)
        self._session = BoundedSession(self.name, self._adapter)
        paths = ssl.get_default_verify_paths()
        self._session.verify = str(destination.tls_ca or paths.cafile or paths.capath or True)
        if destination.tls_certificate is not None and destination.tls_key is not None:
            self._session.cert = (str(destination.tls_certificate), str(destination.tls_key))
        self._session.auth = _credentials(destination)
        if destination.proxy is not None:
            self._session.proxies = {"http": destination.proxy, "https": destination.proxy}
        self._timeout = (settings.connect_seconds, settings.response_seconds)
        self._client = DICOMwebClient(
            destination.url.rstrip("/"),
            session=self._session,
            timeout=self._timeout,
        )
        self._client.set_http_retry_params(retry=False)  # the sender decides when to try again

    def expect(self, paths: Iterable[Path]) -> None:
        """Do nothing: HTTP negotiates no SOP classes."""

    def send(self, path: Path) -> StoreResponse:
        """Store a Part 10 file (STOW-RS, PS3.18 10.5): unchanged, or uncompressed if it is refused so.

        As :meth:`dicom_node.dimse.client.storage_scu.StoreSession.send`. A service that refuses an instance,
        or gives an answer that says nothing, is asked by QIDO-RS whether it has it: it may have kept what it
        was sent before, when its answer was lost.
        """
        if not is_dicom(path):
            raise BadInstance(f"{path}: not a DICOM file (PS3.10 7.1)")
        try:
            self._store(path, path.read_bytes())
        except PeerRejected:
            if ContextRequirement.of(path).transfer_syntax not in ENCAPSULATED:
                raise
            from dicom_node.results.encoding.compression import decompressed, written  # noqa: PLC0415 - rarely needed

            self._store(path, written(decompressed(path)))
        return StoreResponse(0, meaning_of(0))

    def _store(self, path: Path, content: bytes) -> None:
        boundary = uuid.uuid4().hex
        body = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body += content + f"\r\n--{boundary}--\r\n".encode()
        with self._translated("STOW-RS"):
            response = self._session.post(
                f"{self.name.rstrip('/')}/studies",
                data=io.BytesIO(body),
                headers={
                    "Content-Type": f'multipart/related; type="application/dicom"; boundary="{boundary}"',
                    "Accept": "application/dicom+json",
                },
                timeout=self._timeout,
                allow_redirects=False,
            )
        self._judge(response, path)

    def _judge(self, response: requests.Response, path: Path) -> None:
        """Raise unless the service has the instance (PS3.18 table 10.5.3-1 and I.2)."""
        conflict = response.status_code == _CONFLICT
        if not (200 <= response.status_code < 300 or conflict):
            raise self._refusal(response)
        reference = InstanceReference.of(path)
        answer = StoreAnswer(response, reference.sop_instance_uid)
        if answer.stored:
            return
        sentence = f"{self.name}: STOW-RS"
        error: PeerError
        if answer.failure is not None:
            kind = PeerRejected if answer.permanent else InstanceDeferred
            error = kind(f"{sentence} failed with {answer.failure:04X}: {answer.meaning}")
            if not conflict:
                raise error
        elif conflict:
            error = PeerRejected(f"{sentence} answered {_status(response)}")
        else:
            error = PeerUnavailable(
                f"{sentence} answered {response.status_code} with "
                f"{printable(answer.media_type, 64) or 'content'} that is no DICOM response; check the url"
            )
        try:
            found = self.find([reference])
        except PeerUnavailable as unavailable:
            raise (InstanceDeferred if conflict else PeerUnavailable)(f"{error}; {unavailable}") from None
        except PeerRejected:
            found = set()
        if reference.sop_instance_uid not in found:
            raise error

    def _refusal(self, response: requests.Response) -> PeerError:
        """Return the error for an answer that is no response to the instance."""
        code = response.status_code
        sentence = f"{self.name}: STOW-RS answered {_status(response)}"
        if response.is_redirect:
            target = printable(response.headers.get("Location", "").removesuffix("/studies"), 256)
            return PeerUnavailable(f"{sentence}; set url to {target}")
        if code in (401, 403):
            sentence += _CREDENTIALS
        kind = PeerUnavailable if code in _SERVICE_AWAY else InstanceDeferred
        return (PeerRejected if code in _PERMANENT else kind)(sentence)

    def ping(self) -> float:
        """Query for any one study (QIDO-RS); return the time to the answer, in seconds.

        Raises
        ------
        PeerUnavailable, PeerRejected
            When the service gives no answer.
        """
        begun = time.perf_counter()
        with self._translated("QIDO-RS"):
            self._client.search_for_studies(limit=1)
        return time.perf_counter() - begun

    def offered(self) -> frozenset[Confirmation]:
        """Return the ways of confirmation that the service offers."""
        return frozenset({Confirmation.QUERY})

    def find(self, references: Sequence[InstanceReference]) -> set[str]:
        """Return the SOP Instance UIDs that the service finds (QIDO-RS).

        Raises
        ------
        PeerUnavailable, PeerRejected
            When the service gives no answer.
        """
        found = set()
        for each in references:
            with self._translated("QIDO-RS"):
                rows = self._client.search_for_instances(
                    each.study_instance_uid,
                    each.series_instance_uid,
                    search_filters={"SOPInstanceUID": each.sop_instance_uid},
                )
                for row in rows:
                    found |= {str(uid) for uid in row.get(_SOP_INSTANCE_UID, {}).get("Value", ())}
        return found

    def studies(self, patient_id: str, first: str, last: str) -> list[Dataset]:
        """Return the studies of a patient between two days (QIDO-RS).

        Parameters
        ----------
        first, last
            First and last day (DA).

        Raises
        ------
        PeerUnavailable, PeerRejected
            When the service gives no answer.
        """
        filters = {"PatientID": patient_id, "StudyDate": f"{first}-{last}"}
        with self._translated("QIDO-RS"):
            rows = self._client.search_for_studies(fields=STUDY_KEYS, search_filters=filters)
            return [Dataset.from_json(row) for row in rows]

    def series(self, study_instance_uid: str) -> list[Dataset]:
        """Return the series of a study (QIDO-RS); raises as :meth:`studies`."""
        with self._translated("QIDO-RS"):
            rows = self._client.search_for_series(study_instance_uid, fields=SERIES_KEYS)
            return [Dataset.from_json(row) for row in rows]

    def fetch(self, study_instance_uid: str, series_instance_uids: Sequence[str]) -> Iterator[IO[bytes]]:
        """Yield the instances of series as Part 10 files without names (WADO-RS); raises as :meth:`studies`.

        The caller closes each; those before an error have come nevertheless.
        """
        for series in series_instance_uids:
            with self._translated("WADO-RS"):
                place = f"studies/{quote(study_instance_uid, '')}/series/{quote(series, '')}"
                response = self._session.get(
                    f"{self.name.rstrip('/')}/{place}",
                    headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
                    timeout=self._timeout,
                    stream=True,
                )
                response.raise_for_status()
                pieces = self._adapter.pieces(response, _MAX_SERIES_BYTES)
                for file in instance_files(response.headers.get("Content-Type", ""), pieces):
                    yield _part10(file)

    def release(self) -> None:
        """Close the connections; the next request opens new ones."""
        self._session.close()

    @contextlib.contextmanager
    def _translated(self, service: str) -> Iterator[None]:
        """Translate errors of the HTTP client into PeerUnavailable and PeerRejected."""
        try:
            yield
        except requests.HTTPError as error:
            code = error.response.status_code
            sentence = f"{self.name}: {service} answered {_status(error.response)}"
            if code in (401, 403):
                sentence += _CREDENTIALS
            raise (PeerRejected if code in {*_PERMANENT, _CONFLICT} else PeerUnavailable)(sentence) from None
        except requests.exceptions.ProxyError as error:
            raise PeerUnavailable(f"{self.name}: {_root(error)}; see proxy") from None
        except requests.exceptions.SSLError as error:
            raise PeerUnavailable(f"{self.name}: TLS failed: {_root(error)}; see tls_ca") from None
        except requests.ConnectionError as error:
            raise PeerUnavailable(f"{self.name}: cannot connect: {_root(error)}; is it running?") from None
        except requests.Timeout:
            raise PeerUnavailable(f"{self.name}: {service} was not answered in time") from None
        except (requests.RequestException, SyntaxError, BadInstance, *attributes.MALFORMED) as error:
            # The answer is not well-formed: XML, JSON, or the DICOM attributes in it.
            sentence = f"{self.name}: {service}: the answer cannot be read ({type(error).__name__})"
            raise PeerUnavailable(sentence) from None
        except OSError as error:  # the file with the credentials
            raise PeerUnavailable(f"{self.name}: {error.filename}: {error.strerror}") from None


def _part10(file: IO[bytes]) -> IO[bytes]:
    """Return an instance as a file of the form that the spool keeps; nearly every service sends that form."""
    try:
        data_set_offset(file.read(HEAD_BYTES))
    except BadInstance:
        if file.seek(0, io.SEEK_END) > _MAX_ODD_BYTES:
            raise
        with contextlib.ExitStack() as stack, file, attributes.tolerance():
            written = stack.enter_context(tempfile.TemporaryFile())
            file.seek(0)
            dcmwrite(written, dcmread(file), enforce_file_format=True)
            stack.pop_all()  # the caller closes it
        file = written
    file.seek(0)
    return file


def _credentials(
    destination: DicomwebDestination,
) -> Callable[[requests.PreparedRequest], requests.PreparedRequest] | None:
    """Return the function that adds the credentials to a request; it reads the files for each request."""
    user, password, token = destination.user, destination.password_file, destination.token_file

    def basic(request: requests.PreparedRequest) -> requests.PreparedRequest:
        assert user is not None
        assert password is not None
        request.prepare_auth((user, password.read_text().strip()))
        return request

    def bearer(request: requests.PreparedRequest) -> requests.PreparedRequest:
        assert token is not None
        request.headers["Authorization"] = f"Bearer {token.read_text().strip()}"
        return request

    return bearer if token is not None else basic if user is not None else None


def _status(response: requests.Response) -> str:
    """Return the status of an answer with the words of the standard, whatever words the service sent."""
    try:
        return f"{response.status_code} {HTTPStatus(response.status_code).phrase}"
    except ValueError:
        return str(response.status_code)


def _root(error: BaseException) -> str:
    """Return the message of the innermost error in a chain of wrapped errors."""
    while error.args and isinstance(inner := getattr(error.args[0], "reason", error.args[0]), BaseException):
        error = inner
    return printable(str(error).rpartition(": ")[2], 256) or type(error).__name__
