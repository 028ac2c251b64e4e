"""The one place that says which version this is."""

VERSION = "0.1.0"
RELEASED_MS = 1_795_305_600_000  # 2026-11-22 UTC: a clock that shows an earlier time is wrong
