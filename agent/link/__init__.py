"""The pile's MQTT connection: ``link.Link`` and its ``config.LinkConfig``.

Nothing is imported here: who only checks a configuration need not load paho, which takes 50 ms and 13 MB,
half of that for the ssl module that it imports whether TLS is configured or not.
"""
