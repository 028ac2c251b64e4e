"""The package on a real systemd: Debian in a container, its disk a file whose power can be cut."""
