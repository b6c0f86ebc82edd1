"""Files of any commit, read without a checkout: chunk by chunk, from here or from a remote."""
