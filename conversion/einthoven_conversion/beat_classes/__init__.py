"""Trains, cross-validates and scores the beat classifier's tables (``einthoven_models/beat_classes.json``)."""
