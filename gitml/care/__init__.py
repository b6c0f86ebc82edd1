"""Care and repair: what is needed, whether it can be read, what can go, what it costs."""
