"""Wire formats as codecs: bytes in, events out, and back. No streams here."""
