"""``python -m router`` is ``pile-router``."""

import sys

from router.main import main

if __name__ == "__main__":
    sys.exit(main())
