"""The one door to git: how it is run, how objects and refs are read and written."""
