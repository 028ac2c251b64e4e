"""A charging site in a box: power board, serial line, broker, FTP server, platform. For demo, tests and benchmarks."""
