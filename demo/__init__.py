"""The demo: the story of gitml, told with real commands."""
