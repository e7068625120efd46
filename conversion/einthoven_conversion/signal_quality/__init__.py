"""Fits and exports the network behind the signal quality index (``einthoven.signal_quality``)."""
