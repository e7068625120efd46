"""Results and annotations: the ledger's rules, the one writer of a shard, and reading.

It deliberately knows no wire format of a message and no FHIR.

``ledger``, ``resource_ids`` and ``stored_result`` are pure, ``commit`` is one transaction's SQL, ``writer`` batches
transactions, ``store`` reads, ``application`` holds the clinicians' addresses. Imports ``identity`` and ``audit``.
"""
