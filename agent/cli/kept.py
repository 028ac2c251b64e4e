"""``pile-agent tariff`` and ``reservations``: what the platform has set, read from the journal."""

import sys
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

from agent.cli.exits import FAILED, OK
from agent.cli.rows import print_csv, print_json
from agent.cli.times import local
from agent.config import Config, load_config
from agent.journal import JournalError, reading, stored_value
from agent.pile.money import Price
from agent.pile.parameters import PUBLIC_FREE, Reservation, Site
from agent.pile.parts import from_json
from agent.pile.state import GunTariff
from agent.pile.tariff import DAY_S, Tariff, flat_tariff
from agent.protocol.rules import clock

Kept = GunTariff | Reservation
COLUMNS = {
    "tariff": ("gun", "template", "start", "end", "start_s", "end_s", "price", "service_fee"),
    "reservations": ("gun", "account", "start", "end", "start_s", "end_s"),
}


def kept(path: Path, what: str, form: str) -> int:
    """Print the ``tariff`` of each gun or the ``reservations`` as table, json or csv; the exit code."""
    config = load_config(path)
    try:
        found = _tariffs(config) if what == "tariff" else _reservations(config)
    except JournalError as error:
        print(error, file=sys.stderr)
        return FAILED
    zone = timezone(timedelta(seconds=config.utc_offset_s))
    rows = (dict(zip(COLUMNS[what], row, strict=True)) for one in found for row in _rows(one, zone))
    if form == "json":
        print_json(rows)
    elif form == "csv":
        print_csv(rows, COLUMNS[what])
    elif found:
        print("\n".join(line for one in found for line in _words(one, zone)))
    else:
        print("the pile has no tariff: starts are refused" if what == "tariff" else "there are no reservations")
    return OK


def _tariffs(config: Config) -> list[Kept]:
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


def _reservations(config: Config) -> list[Kept]:
    return list(from_json(tuple[Reservation, ...], _stored(config, "reservations") or []))


def _stored(config: Config, key: str) -> Any:
    with reading(config.journal) as database:
        return stored_value(database, key)


def _rows(one: Kept, zone: timezone) -> Iterator[tuple[Any, ...]]:
    """The values of ``COLUMNS``: a reservation is one row, a tariff one for each period."""
    if isinstance(one, Reservation):
        yield one.gun, one.account, _time(one.start_s, zone), _time(one.end_s, zone), one.start_s, one.end_s
        return
    for start_s, end_s, price in _periods(one.tariff):
        times = clock(start_s), clock(end_s), start_s, end_s
        yield one.gun, one.tariff.template, *times, price.price, price.service_fee


def _words(one: Kept, zone: timezone) -> Iterator[str]:
    if isinstance(one, Reservation):
        begins, ends = (_time(at_s, zone).replace("T", " ") for at_s in (one.start_s, one.end_s))
        yield f"gun {one.gun}: account {one.account} from {begins} to {ends}"
        return
    yield f"gun {one.gun}: tariff {one.tariff.template}"
    for start_s, end_s, price in _periods(one.tariff):
        times = f"{clock(start_s)}-{clock(end_s)}"
        yield f"  {times}  electricity {price.price / 1e5:.5f}, service {price.service_fee / 1e5:.5f} yuan per kWh"


def _periods(tariff: Tariff) -> Iterator[tuple[int, int, Price]]:
    """From, until (seconds of the local day), at which price."""
    return zip(tariff.starts_s, (*tariff.starts_s[1:], DAY_S), tariff.prices, strict=True)


def _time(at_s: int, zone: timezone) -> str:
    return local(at_s * 1000, zone).isoformat()
