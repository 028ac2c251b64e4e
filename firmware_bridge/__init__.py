"""The room of commands 113 and 114: firmware fetched over FTP, proved, installed, rolled back. Never imports ``agent``.

Three programs come out of it. ``worker`` runs as the agent's child and fetches and proves a file; ``installer`` runs as
root and is the only one that writes releases; ``launcher`` chooses the release that starts. ``flash`` is the procedure
that puts an image into a power board, driven by the agent's bus.
"""
