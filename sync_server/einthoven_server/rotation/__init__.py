"""Rotation of keys while servers serve: the key-encryption key (``wrapping``), and patients' data keys (``patients``).

It deliberately answers no request: the command ``einthoven-server keys`` runs it, beside any number of servers.
"""
