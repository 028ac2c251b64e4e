"""``pile-agent tariff`` and ``reservations``: what the platform has set, read from the journal."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from agent.cli.exits import FAILED, OK
from agent.config import Config, load_config
from agent.journal import JournalError, reading, stored_value
from agent.pile.money import Price
from agent.pile.parameters import PUBLIC_FREE, Reservation, Site
from agent.pile.parts import from_json, to_json
from agent.pile.state import GunTariff
from agent.pile.tariff import DAY_S, Tariff, flat_tariff
from agent.protocol.rules import clock


def kept(path: Path, what: str, as_json: bool) -> int:
    """Print the tariffs or the reservations; the exit code."""
    config = load_config(path)
    try:
        found = _tariffs(config) if what == "tariff" else _reservations(config)
    except JournalError as error:
        print(error, file=sys.stderr)
        return FAILED
    zone = timezone(timedelta(seconds=config.utc_offset_s))
    if not found and not as_json:
        print("the pile has no tariff: starts are refused" if what == "tariff" else "there are no reservations")
    for one in found:
        print(json.dumps(to_json(one), ensure_ascii=False) if as_json else "\n".join(_words(one, zone)))
    return OK


def _tariffs(config: Config) -> list[GunTariff]:
    """Every gun's: nothing on a public, free pile (109), else what 110 has set, else the configuration's price."""
    site = from_json(Site, _stored(config, "site"))
    if site is not None and site.operation == PUBLIC_FREE:
        free = flat_tariff("free", Price(0, 0))
        return [GunTariff(number, free) for number in range(1, config.pile.guns + 1)]
    found = {one.gun: one for one in from_json(tuple[GunTariff, ...], _stored(config, "tariffs") or [])}
    if config.pile.price is not None:
        flat = flat_tariff("config", config.pile.price)
        found = {number: GunTariff(number, flat) for number in range(1, config.pile.guns + 1)} | found
    return [found[number] for number in sorted(found)]


def _reservations(config: Config) -> list[Reservation]:
    return list(from_json(tuple[Reservation, ...], _stored(config, "reservations") or []))


def _stored(config: Config, key: str) -> Any:
    with reading(config.journal) as database:
        return stored_value(database, key)


def _words(one: GunTariff | Reservation, zone: timezone) -> Iterator[str]:
    if isinstance(one, Reservation):
        begins, ends = (datetime.fromtimestamp(at_s, zone).isoformat(sep=" ") for at_s in (one.start_s, one.end_s))
        yield f"gun {one.gun}: account {one.account} from {begins} to {ends}"
    else:
        yield f"gun {one.gun}: tariff {one.tariff.template}"
        yield from _periods(one.tariff)


def _periods(tariff: Tariff) -> Iterator[str]:
    ends_s = (*tariff.starts_s[1:], DAY_S)
    for start_s, end_s, price in zip(tariff.starts_s, ends_s, tariff.prices, strict=True):
        times = f"{clock(start_s)}-{clock(end_s)}"
        yield f"  {times}  electricity {price.price / 1e5:.5f}, service {price.service_fee / 1e5:.5f} yuan per kWh"
