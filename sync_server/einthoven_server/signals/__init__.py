"""Raw signals: uploads that go on where they stopped, the proof whose they are, where they lie, and reading them.

It deliberately shares no table with ``records``: it reads results and seals, and changes neither.
"""
