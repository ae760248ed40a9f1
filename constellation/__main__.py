"""`python -m constellation`: the same as the `constellation` command."""

import sys

from constellation.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
