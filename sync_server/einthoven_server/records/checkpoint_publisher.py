"""Brings signed checkpoints of the audit log to devices, as a document of the tenant.

It deliberately decides nothing about the log: ``audit.checkpoint_keeper`` refuses to sign what did not grow from the
last one.

Invariants:
    1. One is made only where the log has grown by more than this module's own entries, and at most once an hour.
    2. A log that did not grow from what was signed is said in the server's log each round, and never published.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from einthoven_protocol.messages import Document
from einthoven_server import limits
from einthoven_server.audit.chain import ALLOWED, Event
from einthoven_server.audit.checkpoint_keeper import CheckpointDocument, CheckpointKeeper
from einthoven_server.audit.trail import PURPOSES
from einthoven_server.certificates import DocumentSigner
from einthoven_server.errors import AuditTampered, CheckpointRefused, Conflict, DataFolderUnsafe, KeyUnavailable
from einthoven_server.records.changes import PutDocument
from einthoven_server.records.commits import WHOLE_TENANT
from einthoven_server.records.word_store import WordStore
from einthoven_server.records.writer import Writer

DOCUMENT_NAME: Final = "audit-checkpoint"
OPERATION: Final = "audit.checkpoint"
SERVER: Final = "server"
"""Actor and role of what the server does by itself."""

_log = logging.getLogger("einthoven_server")


class CheckpointPublisher:
    """Publishes one tenant's checkpoints.

    Args:
        keeper: Signs and keeps them.
        words: Documents that are held.
        writer: For writing; must be running.
        signer: Signs documents with the authority's key.
        tenant: Whose they are.
    """

    def __init__(
        self, keeper: CheckpointKeeper, words: WordStore, writer: Writer, signer: DocumentSigner, tenant: str
    ) -> None:
        self._keeper = keeper
        self._words = words
        self._writer = writer
        self._signer = signer
        self._tenant = tenant

    async def round(self, now_ms: int) -> bool:
        """Make and publish one if it is time; return whether one was published.

        Args:
            now_ms: UTC, ms since 1970.

        Raises:
            Busy: No database.
        """
        last = await self._keeper.last()
        size, signed_ms, _ = last or (0, None, "")
        if signed_ms is not None and 0 <= now_ms - signed_ms < limits.AUDIT_CHECKPOINT_INTERVAL_MS:
            return False
        if not await self._keeper.grown_since(size, OPERATION):
            return False
        try:
            note = await self._keeper.make(now_ms)
            return await self._publish(note, now_ms)
        except (AuditTampered, CheckpointRefused, DataFolderUnsafe, KeyUnavailable) as error:
            _log.error("no checkpoint of the audit log was signed: %s", error)
        except Conflict:
            pass  # another server of this tenant published one at the same time
        return False

    async def _publish(self, note: str, now_ms: int) -> bool:
        body = msgspec.json.encode(CheckpointDocument(note))
        held = {document.name: document for document in await self._words.documents_of(WHOLE_TENANT)}
        before = held.get(DOCUMENT_NAME)
        if before is not None and before.body == body:
            return False
        version = 1 if before is None else before.version + 1
        signature = self._signer.sign_document(self._tenant, WHOLE_TENANT, DOCUMENT_NAME, version, now_ms, body)
        event = Event(now_ms, SERVER, OPERATION, "", ALLOWED, role=SERVER, purpose=PURPOSES[SERVER])
        document = Document(name=DOCUMENT_NAME, version=version, issued_at_ms=now_ms, body=body, signature=signature)
        await self._writer.put_document(PutDocument(WHOLE_TENANT, None, document, event, now_ms))
        return True
