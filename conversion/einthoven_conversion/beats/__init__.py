"""Trains, cross-validates and exports the beat detector's tables (``einthoven_models/beats.json``)."""
