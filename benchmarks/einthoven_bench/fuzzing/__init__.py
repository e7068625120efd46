"""Schema-driven fuzzing of a real server: Schemathesis, run as a tool over /v1/openapi.json, with real tokens.

``ground`` makes a server with somebody of every role, ``showing`` signs each request, ``hooks`` is what Schemathesis
loads, ``tally`` what it counted, ``running`` puts them together. ``make fuzz`` runs it.
"""
