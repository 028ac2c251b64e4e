"""``pile-agent``: the command line. Each subcommand stands in a module of its own, imported when it is asked for."""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.cli.bundle_options import add_bundle
from agent.cli.exits import CONFIG, FAILED, INTERRUPTED
from agent.config_keys import ConfigError
from agent.version import VERSION

DEFAULT_CONFIG = Path("/etc/pile-agent/pile.toml")

DESCRIPTION = """\
The agent on an electric-vehicle charging pile: platform commands (100 to 114) in over MQTT, Modbus RTU out to the power
board, replies back."""

EPILOG = """\
A first look, without hardware:   make demo
A configuration to start from:    systemd/pile.toml.example in the source
  pile-agent check --config pile.toml      name every fault of it
  pile-agent run --config pile.toml        run
  pile-agent send --config pile.toml 112   ask the pile for its versions, as the platform would
  pile-agent records --config pile.toml    what has been charged, and what has happened
  pile-agent bill --config pile.toml A1    order A1's bill with its arithmetic
  pile-agent updates --config pile.toml    upgrades, and what became of them

Exit codes: 0 good, 1 failed, 2 wrong usage, 78 a configuration that can't be used."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # the platform's texts are Chinese, whatever the locale says
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    options = _parser().parse_args(arguments)
    work: Callable[[argparse.Namespace], int] = options.work
    try:
        return work(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        # On trial (the launcher says so) the release before may be able to use it: it is to be started again.
        return FAILED if "PILE_AGENT_TRIAL" in os.environ else CONFIG
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone; at exit Python would try once more to write to them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


class Parser(argparse.ArgumentParser):
    """Its own way to the terminal's width: argparse takes shutil's, which loads every compressor there is, 0.6 MiB for
    good, already when an option is added."""

    def _get_formatter(self) -> argparse.HelpFormatter:
        return self.formatter_class(prog=self.prog, width=_columns() - 2)  # type: ignore[call-arg]


def _columns() -> int:
    with contextlib.suppress(ValueError):
        return int(os.environ.get("COLUMNS", ""))
    with contextlib.suppress(OSError):  # not a terminal
        return os.get_terminal_size().columns
    return 80


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="pile-agent", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"pile-agent {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _command(commands, "run", _run, "run the agent until SIGTERM")
    _add_check(commands)
    _add_send(commands)
    _add_status(commands)
    _add_records(commands)
    _add_bill(commands)
    _add_kept(commands)
    _add_lines(commands)
    _add_selftest(commands)
    add_bundle(commands)
    return parser


def _send_epilog() -> str:
    """Every command with its fields; reading the table costs time that no other subcommand should pay."""
    from agent.cli.help import command_help

    return command_help()


Commands = argparse._SubParsersAction  # argparse gives this type no public name


def _command(
    commands: "Commands[argparse.ArgumentParser]",
    name: str,
    work: Callable[[argparse.Namespace], int],
    text: str,
    description: str = "",
    **more: Any,
) -> argparse.ArgumentParser:
    """A subcommand that takes a configuration; ``text`` is the help's, and the description unless that says more."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=description or f"{text[0].upper()}{text[1:]}.", **more
    )
    command.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help="configuration file (%(default)s)"
    )
    command.set_defaults(work=work)
    return command


def _add_check(commands: "Commands[argparse.ArgumentParser]") -> None:
    description = "Check a configuration and its device profiles; every fault is named at once. Nothing is opened."
    _command(commands, "check", _check, "check a configuration and its device profiles", description)


def _add_send(commands: "Commands[argparse.ArgumentParser]") -> None:
    send = _command(
        commands, "send", _send, "publish a command as the platform would, and wait for its replies",
        "Publish a command as the platform would, and print its replies up to the final one.",
        epilog=_send_epilog() if "send" in sys.argv[1:2] else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    send.add_argument("--timeout", type=float, default=90.0, metavar="S", help="give up after S seconds (%(default)s)")
    send.add_argument("--timestamp", type=int, metavar="MS", help="the command's timestamp (now)")
    send.add_argument("number", type=int, metavar="NUMBER", help="the command, 100 to 114")
    send.add_argument("fields", nargs="*", metavar="FIELD=VALUE", help="its fields; JSON for numbers and rows")


def _add_status(commands: "Commands[argparse.ArgumentParser]") -> None:
    for name, text in (("status", "show the running agent once"), ("watch", "show the running agent, each second")):
        command = _command(commands, name, _status, text)
        command.add_argument("--json", action="store_true", help="JSON, a line each time")
        command.set_defaults(request=name)


def _add_records(commands: "Commands[argparse.ArgumentParser]") -> None:
    text = "show what the journal keeps: charges, measurements, events, alarms"
    description = "Show the newest records of the journal, oldest first. The agent may run or not."
    records = _command(commands, "records", _records, text, description)
    records.add_argument("--type", choices=("charging", "process", "event", "alarm"), help="only of that type")
    records.add_argument("--order", metavar="N", help="only of that order")
    records.add_argument("--gun", type=int, metavar="N", help="only of that gun; 0 is the whole pile")
    records.add_argument("--since", type=_time, metavar="TIME", help="only from that time on (ISO 8601, local)")
    records.add_argument("--limit", type=_count, default=100, metavar="N", help="at most so many, 0 all (%(default)s)")
    _add_form(records, "CSV; with --type all its fields")


def _add_bill(commands: "Commands[argparse.ArgumentParser]") -> None:
    text = "show an order's bill with its arithmetic, and whether it adds up"
    description = "Recompute an order's bill from the journal. Exit code 1 if it does not add up, or is not there."
    bill = _command(commands, "bill", _bill, text, description)
    bill.add_argument("order", metavar="ORDER", help="the order's number")
    bill.add_argument("--json", action="store_true", help="JSON")


def _add_kept(commands: "Commands[argparse.ArgumentParser]") -> None:
    for name, work, text in (
        ("tariff", _kept, "show each gun's tariff"),
        ("reservations", _kept, "show the reservations"),
        ("updates", _updates, "show the upgrades that are over, and the one under way"),
    ):
        command = _command(commands, name, work, text, f"{text.capitalize()}. The agent may run or not.")
        _add_form(command, "CSV")
        command.set_defaults(what=name)


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a time such as 2026-11-22T08:00:00") from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected an integer from 0")
    return int(text)


def _add_lines(commands: "Commands[argparse.ArgumentParser]") -> None:
    decode = commands.add_parser(
        "decode",
        help="platform lines on stdin to JSON on stdout",
        description="Read platform lines on stdin, write one JSON object for each. Exit code 1 if any line failed.",
    )
    decode.add_argument("--replies", action="store_true", help="the lines are replies of a pile, not commands")
    encode = commands.add_parser(
        "encode",
        help="JSON on stdin to platform lines on stdout",
        description="Read decode's JSON objects on stdin, write the line of each. Exit code 1 if any failed.",
    )
    for command, work in ((decode, _decode), (encode, _encode)):
        command.add_argument("--utc-offset", default="+08:00", metavar="±HH:MM", help="local time (%(default)s)")
        command.set_defaults(work=work)


def _add_selftest(commands: "Commands[argparse.ArgumentParser]") -> None:
    selftest = commands.add_parser(
        "selftest",
        help="could this release run here? The installer asks a new one",
        description="Load everything, write a scratch journal. Exit code 1 if this release can't run here.",
    )
    selftest.add_argument("--config", type=Path, metavar="FILE", help="a configuration that it must be able to use")
    selftest.add_argument("--release", metavar="VERSION", help="the version that it must be")
    selftest.set_defaults(work=_selftest)


def _add_form(parser: argparse.ArgumentParser, csv_help: str) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_const", const="json", dest="form", help="JSON, a line each")
    form.add_argument("--csv", action="store_const", const="csv", dest="form", help=csv_help)
    parser.set_defaults(form="table")


def _run(options: argparse.Namespace) -> int:
    from agent.cli.run import run

    return run(options.config)


def _check(options: argparse.Namespace) -> int:
    from agent.cli.check import check

    return check(options.config)


def _send(options: argparse.Namespace) -> int:
    from agent.cli.send import send

    return send(options.config, options.number, options.fields, options.timestamp, options.timeout)


def _status(options: argparse.Namespace) -> int:
    from agent.cli.show import show

    return show(options.config, options.request, options.json)


def _records(options: argparse.Namespace) -> int:
    from agent.cli.records import Asked, records

    asked = Asked(options.type, options.order, options.gun, options.since, options.limit, options.form)
    return records(options.config, asked)


def _bill(options: argparse.Namespace) -> int:
    from agent.cli.bill import bill

    return bill(options.config, options.order, options.json)


def _kept(options: argparse.Namespace) -> int:
    from agent.cli.kept import kept

    return kept(options.config, options.what, options.form)


def _updates(options: argparse.Namespace) -> int:
    from agent.cli.updates import updates

    return updates(options.config, options.form)


def _selftest(options: argparse.Namespace) -> int:
    from agent.cli.selftest import selftest

    return selftest(options.config, options.release)


def _decode(options: argparse.Namespace) -> int:
    from agent.cli.lines import decode, offset_of

    return decode(sys.stdin.buffer, sys.stdout, offset_of(options.utc_offset), options.replies)


def _encode(options: argparse.Namespace) -> int:
    from agent.cli.lines import encode, offset_of

    return encode(sys.stdin.buffer, sys.stdout.buffer, offset_of(options.utc_offset))


if __name__ == "__main__":
    sys.exit(main())
