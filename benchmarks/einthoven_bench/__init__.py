"""Measures the system and compares with the targets; nothing of the product imports it."""
