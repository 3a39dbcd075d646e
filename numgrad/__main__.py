"""``python -m numgrad``: the command line."""

import sys

from numgrad.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
