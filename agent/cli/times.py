"""Moments as people read them."""

from datetime import UTC, datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def local(at_ms: int, zone: timezone) -> datetime:
    """``at_ms`` (ms of Unix time) in ``zone``. Not fromtimestamp(): that ends in 2038 on a 32-bit board."""
    return (EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone)
