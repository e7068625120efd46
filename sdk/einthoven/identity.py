"""Who this device is to its server: keys, pinned authority, addresses. Kept only inside the encrypted store.

It deliberately never prints itself: ``repr`` shows the device id and nothing that opens anything.

Invariants:
    1. The signing key is made on the device and never leaves it.
    2. An identity is stored whole or not at all: between a former one and the next there is none, so that nothing is
       sent to a server by another's books.
    3. Words of the patient at results, of a former identity, are said again under the next (``store_rules``, R10);
       notes follow with its first sync, if they are not on its server (R22).
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from einthoven.errors import NotEnrolled, StoreIOError
from einthoven.ports import Store
from einthoven.store_rules import SYNC_KEY_SETTING
from einthoven_protocol.messages import ResultId

IDENTITY_SETTING: Final = "identity"
FORMER_IDENTITY_SETTING: Final = "former_identity"
"""Setting under which an identity is kept while another takes its place."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A device's enrolment.

    Attributes:
        device_id: UUID the server gave.
        device_alias: Small integer the server gave; part of every row's identity.
        url: The server's base URL, https.
        ca_pem: The pinned certificate authority, PEM.
        signing_key: Ed25519 private key, 32 raw bytes.
        tenant: Opaque tenant id.
        patient_id: Opaque patient id.
    """

    device_id: str
    device_alias: int
    url: str
    ca_pem: str
    signing_key: bytes
    tenant: str
    patient_id: str

    def __repr__(self) -> str:
        return f"Identity(device_id={self.device_id!r})"

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature of ``message``, 64 bytes."""
        return Ed25519PrivateKey.from_private_bytes(self.signing_key).sign(message)


def save_identity(store: Store, identity: Identity, sync_key: bytes) -> None:
    """Keep an enrolment in the store; the identity last, so that it is there only when all is.

    Cut off at any point, it is finished by doing it again.
    """
    present = _read(store, IDENTITY_SETTING)
    if present is not None and present.device_id != identity.device_id:
        store.put_setting(FORMER_IDENTITY_SETTING, msgspec.msgpack.encode(present))
        store.put_setting(IDENTITY_SETTING, b"")
    store.put_setting(SYNC_KEY_SETTING, sync_key)
    former = _read(store, FORMER_IDENTITY_SETTING)
    if former is not None:
        _say_again(store, former, identity)
    store.put_setting(IDENTITY_SETTING, msgspec.msgpack.encode(identity))
    if former is not None:
        store.put_setting(FORMER_IDENTITY_SETTING, b"")


def _read(store: Store, name: str) -> Identity | None:
    """An identity, if there is one that can be read."""
    try:
        return msgspec.msgpack.decode(store.setting(name) or b"", type=Identity)
    except msgspec.MsgspecError:
        return None


def _say_again(store: Store, former: Identity, identity: Identity) -> None:
    """Put the own words of a former identity in the outbox of this one, each where its result is now."""
    for row in store.annotations():
        target = row.target
        # As the device and not as the patient: the new server is not known to take those words yet.
        if target.device_alias == former.device_alias and row.author in (former.device_id, former.patient_id):
            now = ResultId(identity.device_alias, target.epoch, target.counter)
            store.annotate(msgspec.structs.replace(row, target=now, author=identity.device_id))
        elif row.author == former.patient_id == identity.patient_id:
            store.annotate(row)  # the patient's words on another device's result: still the patient's to send


def find_identity(store: Store) -> Identity | None:
    """Return the store's enrolment, or None.

    Raises:
        StoreIOError: It is there but can't be read.
    """
    raw = store.setting(IDENTITY_SETTING)
    if not raw:
        return None
    try:
        return msgspec.msgpack.decode(raw, type=Identity)
    except msgspec.MsgspecError as problem:
        raise StoreIOError("the stored enrolment can't be read", "enrol the device again with a new code") from problem


def load_identity(store: Store) -> Identity:
    """Return the store's enrolment.

    Raises:
        NotEnrolled: There is none.
    """
    identity = find_identity(store)
    if identity is None:
        raise NotEnrolled("this device is not enrolled", "get a code from your clinic and run `einthoven enroll CODE`")
    return identity
