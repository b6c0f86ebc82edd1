"""gitml: data, models and pipelines in plain git."""

__version__ = "0.1.0"
