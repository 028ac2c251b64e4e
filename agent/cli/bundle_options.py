"""The options of ``pile-agent bundle``; what it does is imported when it is asked for."""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

DESCRIPTION = """\
The maker's side of firmware: keys, bundles and their signatures; docs/operations/signing.md leads through it. Making
keys and signing need the package cryptography: pip install 'pile-agent[maker]'."""

Commands = argparse._SubParsersAction  # argparse gives this type no public name


def add_bundle(commands: "Commands[argparse.ArgumentParser]") -> None:
    bundle = commands.add_parser("bundle", help="make, sign and verify firmware bundles", description=DESCRIPTION)
    verbs = bundle.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_keygen(verbs)
    _add_make(verbs)
    _add_sign(verbs)
    _add_inspect(verbs)
    _add_verify(verbs)
    _add_install_root(verbs)


def _add_keygen(verbs: "Commands[argparse.ArgumentParser]") -> None:
    keygen = _verb(verbs, "keygen", "make keys: NAME.pem is private, NAME.pub public", "keygen")
    keygen.add_argument("folder", type=Path, metavar="FOLDER", help="where to; a key is never replaced")
    keygen.add_argument("names", nargs="+", metavar="NAME", help="one for each key, such as root-1")
    protection = keygen.add_mutually_exclusive_group()
    _add_passphrase(protection)
    protection.add_argument("--no-passphrase", action="store_true", help="for a key that a machine uses unattended")


def _add_make(verbs: "Commands[argparse.ArgumentParser]") -> None:
    make = _verb(
        verbs,
        "make",
        "make the next bundle from the last one: new roles, a new release, or only new dates",
        "make",
    )
    make.add_argument("--from", type=Path, dest="last", metavar="BUNDLE", help="the last bundle; none for the first")
    make.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="the new bundle")
    what = make.add_mutually_exclusive_group()
    what.add_argument("--roles", type=Path, metavar="FILE", help="who signs from now on (roles.toml)")
    what.add_argument("--payload", type=Path, metavar="FOLDER", help="a release of the agent")
    what.add_argument("--image", type=Path, metavar="FILE", help="an image for a power board")
    what.add_argument("--renew", nargs="+", default=[], metavar="ROLE", help="a later expiry for these")
    make.add_argument("--version", metavar="VERSION", help="of the release, as 114 will order it")
    make.add_argument("--hardware", action="append", default=[], metavar="NAME", help="a device it is for; repeat it")
    make.add_argument("--abi", metavar="ABI", help="interpreter and machine of --payload (those of this computer)")
    make.add_argument("--keep", action="store_true", help="releases it follows may still be installed")
    make.add_argument("--beside", action="store_true", help="leave the payload out: the bundle lies beside the image")
    _add_signing(make)


def _add_sign(verbs: "Commands[argparse.ArgumentParser]") -> None:
    sign = _verb(verbs, "sign", "add the signatures that are missing and that a key may give", "sign")
    sign.add_argument("bundle", type=Path, metavar="BUNDLE")
    _add_signing(sign)


def _add_inspect(verbs: "Commands[argparse.ArgumentParser]") -> None:
    inspect = _verb(verbs, "inspect", "say what is in a bundle, and what signatures are missing", "inspect")
    inspect.add_argument("bundle", type=Path, metavar="BUNDLE")


def _add_verify(verbs: "Commands[argparse.ArgumentParser]") -> None:
    verify = _verb(verbs, "verify", "do what a pile does with a bundle or a raw image, but install nothing", "verify")
    verify.add_argument("carrier", type=Path, metavar="FILE", help="a bundle, or a raw image")
    verify.add_argument("--metadata", type=Path, metavar="BUNDLE", help="what lies beside the raw image")
    trust = verify.add_mutually_exclusive_group(required=True)
    trust.add_argument("--root", type=Path, metavar="FILE", help="a new pile's: its root, or a bundle with it")
    trust.add_argument("--trust", type=Path, metavar="FOLDER", help="a pile's trust folder")
    verify.add_argument("--version", required=True, metavar="VERSION", help="the version that 114 orders")
    verify.add_argument("--hardware", action="append", required=True, metavar="NAME", help="the device; repeat it")
    verify.add_argument("--abi", metavar="ABI", help="its interpreter and machine (those of this computer)")
    verify.add_argument("--at", type=_time, metavar="TIME", help="at that time (now; ISO 8601, UTC)")


def _add_install_root(verbs: "Commands[argparse.ArgumentParser]") -> None:
    install = _verb(verbs, "install-root", "let a new pile trust a root; the factory's step", "install_root")
    install.add_argument("root", type=Path, metavar="FILE", help="a root, or a bundle with it")
    install.add_argument("--trust", type=Path, required=True, metavar="FOLDER", help="the pile's trust folder")


def _add_signing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", type=Path, action="append", default=[], dest="keys", metavar="PEM", help="repeat it")
    _add_passphrase(parser)


def _add_passphrase(parser: "argparse._ActionsContainer") -> None:
    parser.add_argument("--passphrase-file", type=Path, metavar="FILE", help="its first line; else it is asked for")


def _verb(verbs: "Commands[argparse.ArgumentParser]", name: str, text: str, function: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(work=_later(function))
    return parser


def _later(function: str) -> Callable[[argparse.Namespace], int]:
    """python-tuf costs 80 ms and 15 MB, which no other subcommand should pay."""

    def work(options: argparse.Namespace) -> int:
        from agent.cli import bundle

        return bundle.run(function, options)

    return work


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a time such as 2026-11-22T08:00:00") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
