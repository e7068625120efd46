"""The cloud side of Einthoven: a modular monolith of small aiohttp applications over one PostgreSQL.

Each sub-package is an application of its own (``identity``, ``records``, ``sync``, ``fhir``) or a store that all of
them write to (``audit``). ``serve`` mounts them in one process. Nothing is shared but the modules at this level.

It deliberately does no analysis of an ECG and holds no model: a verdict is made on the device.

Imports point one way, each layer knowing only those below it::

    cli
    rotating                            the commands `keys`
    serve
    assembly
    rotation                            of keys, beside running servers
    sync | fhir
    records
    identity
    audit
    connections
    requests, patient_keys              the HTTP edge that all applications share; data keys in the database
    migrations, postgres_embedded       the database's shape and its embedded default
    database                            transactions with retry
    key_services                        adapters over HTTPS
    certificates, key_service_file      adapters over files
    tls, envelope, key_service, private_files, clock
    errors, limits

Invariants:
    1. Patient data is in the database only as ciphertext (``envelope``).
    2. Every request that reaches an operation leaves one audit entry, or is not answered (``audit``).
    3. Every write of one request is one transaction.
"""
