"""What one device may upload, units last. Those of the wire are in ``einthoven_protocol.signal_chunks``."""

from __future__ import annotations

from typing import Final

UPLOAD_LIFETIME_MS: Final = 24 * 3600 * 1000
"""An upload that was not finished by then is gone (410), its bytes with it."""
UPLOAD_REMEMBERED_MS: Final = 7 * 24 * 3600 * 1000
"""So long after its end an expired upload still answers 410; then nobody knows of it (404)."""
UPLOADS_OPEN_MAX: Final = 8
"""Unfinished uploads of one device; with one more, the oldest gives way, or the new one waits (429)."""
UPLOAD_STAYS_S: Final = 10
"""What was begun no longer ago than this gives way to nothing: it is likely under way."""
DEVICE_DAY_MAX_BYTES: Final = 512 * 1024 * 1024
"""Chunks of one device a day (UTC): forty days' worth of one lead, for a device that was offline."""
DEVICE_TOTAL_MAX_BYTES: Final = 64 * 1024 * 1024 * 1024
"""Chunks of one device, ever: some ten years of one lead."""
FLUSH_S: Final = 1.0
"""What arrived of an upload longer ago than this is durable, also while its request goes on."""
VERIFYING_MAX: Final = 2
"""Uploads that one process verifies, seals and stores at a time."""
RECEIVING_MAX: Final = 64
"""Bodies of uploads that one process takes at a time; each holds a parcel in memory at most. Beyond it, 503."""
EXPIRED_AT_ONCE_MAX: Final = 100
"""Expired uploads that are cleared away with each new one."""
DAY_MS: Final = 24 * 3600 * 1000
