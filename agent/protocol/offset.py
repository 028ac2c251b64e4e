"""Local time as a fixed offset from UTC (docs/adr/0006 says why not a named zone)."""

PATTERN = r"[+-](0\d|1[0-4]):[0-5]\d"


def utc_offset_s(text: str) -> int:
    """``+08:00`` (it matches ``PATTERN``) in seconds east of UTC."""
    seconds = int(text[1:3]) * 3600 + int(text[4:6]) * 60
    return -seconds if text[0] == "-" else seconds
