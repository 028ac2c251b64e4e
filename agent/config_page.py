"""The example configuration: every key of the table, commented out at its default, required ones filled in.

python -m agent.config_page > systemd/pile.toml.example
"""

import json
import sys
from typing import Any

from agent.config_keys import REQUIRED, SECTIONS, Key, Section

HEAD = """\
# pile-agent configuration. Every key is here: required ones with a sample value, the others commented out at their
# default. `pile-agent check --config FILE` names every fault of a file at once.
"""


def render() -> str:
    """The whole file."""
    return HEAD + "".join("\n" + _section(section) for section in SECTIONS)


def _section(section: Section) -> str:
    title = f"[[{section.name}]]" if section.repeats else f"[{section.name}]"
    mark = "# " if section.name == "broker.tls" else ""
    rows = [_row(key) for key in section.keys]
    width = max(len(setting) for setting, _ in rows)
    lines = [f"{setting:<{width}}  # {doc}" for setting, doc in rows]
    return "\n".join([f"# {section.doc}", f"{mark}{title}", *lines, ""])


def _row(key: Key) -> tuple[str, str]:
    if key.default is REQUIRED:
        return f"{key.name} = {_toml(key.sample)}", key.doc
    choices = f" ({', '.join(str(choice) for choice in key.choices)})" if key.choices else ""
    return f"# {key.name} = {_toml(key.default)}", key.doc + choices


def _toml(value: Any) -> str:
    """TOML of a text, integer, truth value or list of them: the same as JSON for these."""
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(render())
