"""Tells a patient's devices what the patient agreed to, and whether the data is restricted: a signed document.

It deliberately enforces nothing: the server does by itself (``identity.relations``). On devices it is for what they do
themselves.

Invariants:
    1. The document's name is none that an address can put, so that nobody writes over it.
    2. A patient is noted as told only after the document was committed; who was not is told by housekeeping.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec

from einthoven_protocol.limits import MAX_DOCUMENT_BYTES
from einthoven_protocol.messages import Document
from einthoven_server import limits
from einthoven_server.audit.chain import ALLOWED, Event
from einthoven_server.audit.trail import PURPOSES
from einthoven_server.certificates import DocumentSigner
from einthoven_server.errors import Conflict, EnvelopeRefused, RequestRefused
from einthoven_server.identity.consent_store import ConsentStore
from einthoven_server.identity.privacy_state import PrivacyState
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.records.changes import PutDocument
from einthoven_server.records.word_store import WordStore
from einthoven_server.records.writer import Writer

DOCUMENT_NAME: Final = "patient-consent"
OPERATION: Final = "consent.publish"
_SERVER: Final = "server"
_log = logging.getLogger("einthoven_server")


class ConsentPublisher:
    """Of one tenant.

    Args:
        consents: What patients agreed to.
        state: Restrictions, and who was told what.
        words: Documents that are held.
        keys: Patients' data keys.
        writer: For writing; must be running.
        signer: Signs documents with the authority's key.
        tenant: Whose they are.
    """

    def __init__(
        self,
        consents: ConsentStore,
        state: PrivacyState,
        words: WordStore,
        keys: PatientKeys,
        writer: Writer,
        signer: DocumentSigner,
        tenant: str,
    ) -> None:
        self._consents = consents
        self._state = state
        self._words = words
        self._keys = keys
        self._writer = writer
        self._signer = signer
        self._tenant = tenant

    async def tell(self, patient_id: str, now_ms: int) -> bool:
        """Put the document as it is to be now; return whether devices have, or will get, what was said last.

        What was said is kept already: a failure here is no failure of the request, and housekeeping tries again.
        """
        try:
            # First the generation: whatever is said meanwhile has a later one, and is told again.
            restriction, generation = await self._state.restriction_of(patient_id)
            consents = [one for one in await self._consents.of_patient(patient_id) if one.active]
            body = document_body(
                restricted=restriction.restricted,
                consents=[{"id": one.consent_id, **msgspec.to_builtins(one.agreement)} for one in consents],
            )
            await self._put(patient_id, body, now_ms)
            await self._state.published(patient_id, generation)
        except (RequestRefused, EnvelopeRefused) as error:
            _log.warning("a patient's devices were not told of a consent yet (%s)", type(error).__name__)
            return False
        return True

    async def round(self, now_ms: int) -> int:
        """Tell those who were not told; return how many were.

        Raises:
            Busy: No database.
        """
        waiting = await self._state.unpublished(limits.CONSENTS_PUBLISHED_MAX)
        return sum([await self.tell(patient_id, now_ms) for patient_id in waiting])

    async def _put(self, patient_id: str, body: bytes, now_ms: int) -> None:
        for _ in range(limits.DOCUMENT_PUT_ATTEMPTS_MAX):
            held = {document.name: document for document in await self._words.documents_of(patient_id)}
            before = held.get(DOCUMENT_NAME)
            if before is not None and before.body == body:
                return
            version = 1 if before is None else before.version + 1
            signature = self._signer.sign_document(self._tenant, patient_id, DOCUMENT_NAME, version, now_ms, body)
            event = Event(now_ms, _SERVER, OPERATION, patient_id, ALLOWED, role=_SERVER, purpose=PURPOSES[_SERVER])
            document = Document(
                name=DOCUMENT_NAME, version=version, issued_at_ms=now_ms, body=body, signature=signature
            )
            try:
                key = await self._keys.get(patient_id)
                await self._writer.put_document(PutDocument(patient_id, key, document, event, now_ms))
            except Conflict:
                continue  # somebody else told the same patient's devices at the same time
            return
        raise Conflict("a patient's devices are told by several at once", "it is tried again", code="version_conflict")


def document_body(*, restricted: bool, consents: list[dict[str, Any]]) -> bytes:
    """The document, with as many consents as fit it: of more, it says so."""
    kept = list(consents)
    while True:
        complete = len(kept) == len(consents)
        body = msgspec.json.encode({"restricted": restricted, "complete": complete, "consents": kept})
        if len(body) <= MAX_DOCUMENT_BYTES or not kept:
            return body
        kept = kept[: len(kept) // 2]
