"""One address: a device pushes what it has, reads what is new, and compares digests, in one round trip.

It deliberately settles nothing itself: it verifies what came, hands it to ``records``' writer and encodes the answer.

``seals`` is pure, ``application`` holds the address. Imports ``records``, ``identity`` and ``audit``.
"""
