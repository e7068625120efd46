"""The public keys whose models this SDK believes, and what was revoked.

It deliberately holds no code: a change here is a change of trust, and is to be seen as such in review. The private
halves are kept outside the repository (ADR 12 says how, and how a key is replaced).
"""

from __future__ import annotations

from typing import Final

from einthoven.model_signature import Revocation, Trust, TrustedKey

RELEASE_KEYS: Final = (
    # Release key of 2026.
    TrustedKey(
        bytes.fromhex("34fb85b17234a101476a2257d210d31b14e372eb760e2d187f59f631e1c15bdc"), oldest_version=(2, 0, 0)
    ),
)
REVOCATIONS: Final[tuple[Revocation, ...]] = ()
RELEASE_TRUST: Final = Trust(RELEASE_KEYS, REVOCATIONS)
