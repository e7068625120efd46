"""The wire between a device and its server: messages, bytes, merge rule, digests, signatures. No IO, no clock, no keys.

It deliberately holds no socket, no event loop, no SQL and no signing key: callers bring bytes and take bytes
(docs/sync-protocol-v1.md says what they mean). Modules, from the inside out: ``errors``, ``limits``, ``messages``;
``checks``, ``extras``, ``canonical`` (bytes of a row); ``fields``, ``scalars``, ``columns``, ``extra_columns``,
``verdict_columns``, the tables, ``frame`` and ``codec`` (bytes of a message); ``merkle``, ``digests``, ``merge``,
``hlc``, ``documents``; ``http_signature``, ``enrolment``; ``exchange`` (does an answer add up). Of a repair
(docs/sync-repair-v1.md): ``siphash``, ``riblt``, ``strata``, ``repair`` and its kin. Of signals: ``signal_chunks`` and
its kin.
"""
