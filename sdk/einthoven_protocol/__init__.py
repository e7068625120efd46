"""The wire between a device and its server: messages, bytes, merge rule, digests, signatures. No IO, no clock, no keys.

It deliberately holds no socket, no event loop, no SQL and no signing key: callers bring bytes and take bytes
(docs/sync-protocol-v1.md says what they mean). Modules, from the inside out: ``errors``, ``limits``, ``messages``;
``canonical`` (bytes of a row); ``fields``, ``columns``, ``tables``, ``frame`` and ``codec`` (bytes of a message);
``merkle``, ``digests``, ``merge``, ``hlc``; ``http_signature``, ``enrolment``; ``exchange`` (does an answer add up).
"""
