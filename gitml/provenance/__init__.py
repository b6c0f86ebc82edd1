"""What ran on what, as values and as bytes. Data only: no repository, no clock."""
