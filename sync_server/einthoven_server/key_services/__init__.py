"""Adapters of the ``KeyService`` port over HTTPS: AWS KMS, Google Cloud KMS, Azure Key Vault, HashiCorp Vault Transit.

They deliberately know no table and no patient, and hold no data key longer than a call takes. ``choosing`` makes one
from ``--key-service URL``.
"""
