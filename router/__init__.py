"""Server side: the platform's one stream of commands, handed on to each pile under a key of its own."""
