"""The vault: patients' wrapped data keys and blind indexes, apart from the database, so that no backup holds them.

It deliberately holds nothing that could be read without the key service, and nothing that a backup should bring back.
"""
