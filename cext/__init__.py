"""Bytes to values and back, compiled: ``message`` (the platform's lines) and ``rtu`` (Modbus RTU frames).

Nothing here knows a register map, a command's meaning, a file or a clock's date.
"""
