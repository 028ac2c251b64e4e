"""The exit codes of ``pile-agent``."""

OK = 0
FAILED = 1
USAGE = 2
CONFIG = 78  # EX_CONFIG of sysexits.h: the unit does not restart on it
INTERRUPTED = 130
