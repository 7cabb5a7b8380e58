"""`python -m rein_jax` is `rein`, for where the command is not on the PATH."""

import sys

from rein_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
