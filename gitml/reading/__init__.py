"""Reading files of any commit without a checkout: seekable files over chunks, and a file system on top of them."""
