"""`python -m gitml.tables`: the process that `tables/child` starts."""

import sys

from gitml.tables.child import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
