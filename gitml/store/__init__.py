"""Content in chunks: where cuts fall, how they are listed, and what a pointer says. Bytes in, values out."""
