"""The larger blocks of a report in words, each from its part of a comparison."""
