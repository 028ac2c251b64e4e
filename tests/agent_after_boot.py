"""The real agent on a board that has its power back since a moment ago, and that draws the latest of all random times.

python tests/agent_after_boot.py BOOT_ID_FILE run --config pile.toml
"""

import random
import sys
from pathlib import Path

from agent import clock
from agent.cli.main import main

if __name__ == "__main__":
    clock.BOOT_ID = Path(sys.argv[1])
    clock.JUST_MS = sys.maxsize
    random.Random.uniform = lambda self, low, high: high  # type: ignore[method-assign]
    sys.exit(main(sys.argv[2:]))
