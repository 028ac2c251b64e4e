"""The pile's MQTT connection: ``link.Link`` and its ``config.LinkConfig``.

Nothing is imported here: who only checks a configuration need not load paho, and the agent loads it by ``load``.
"""
