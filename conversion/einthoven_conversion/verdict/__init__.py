"""Fits the tables of a verdict (``verdict.json``) on what networks say of records they were not trained on."""
