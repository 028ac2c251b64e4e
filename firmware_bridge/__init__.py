"""The room of commands 113 and 114: firmware fetched over FTP, proved, installed, rolled back. Never imports ``agent``.

It is not furnished yet: until it is, the agent answers 111, 113 and 114 with NOT_SUPPORTED.
"""
