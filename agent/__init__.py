"""pile-agent: the program on the Linux board of a charging pile. docs/architecture.md is the map of its rooms."""
