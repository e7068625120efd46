"""What devices speak to: an exchange and a repair in one round trip each, and a socket that says when to exchange.

It deliberately settles nothing itself: it verifies what came, hands it to ``records``' writer and encodes the answer.

``seals``, ``announced_limits`` and ``pushed_rows`` are pure; ``service`` and ``repair_service`` serve without HTTP;
``application`` and ``wake_socket`` hold the addresses, ``wake`` who waits there, ``wake_changes`` what it asks the
database. Imports ``records``, ``identity`` and ``audit``.
"""
