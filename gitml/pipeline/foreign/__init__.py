"""Pipelines of other programs as stages of ours: what becomes of each field, and what a person has to see to."""
