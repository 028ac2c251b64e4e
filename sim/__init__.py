"""A charging site in a box: power board, serial line, broker, FTP server and platform. For the demo, tests and benchmarks."""
