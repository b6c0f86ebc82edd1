"""`python -m gitml.formats`: the process that `formats/child` starts."""

import sys

from gitml.formats.child import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
