"""Backups: the database without the vault, encrypted; a mirror of the vault beside it; and the way back.

It deliberately holds no key that opens a backup: the key service does.
"""
