"""Erasure of a patient: the keys first, then all that they sealed, wherever it lies.

It deliberately touches nothing in the audit log: that holds opaque ids only.
"""
