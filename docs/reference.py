"""Write docs/commands.md from the command line, and the tables of other pages that are declared in the code:
`python docs/reference.py`. mkdocstrings renders docs/python.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent

COMMANDS = """# Commands

Written by `python docs/reference.py`. `explorer COMMAND --help` shows the same.

| exit status | meaning |
|---|---|
| 0 | done |
| 1 | an error, explained in one sentence on stderr |
| 2 | wrong usage |
| 130 | interrupted; nothing stored is lost |

`--json` prints one JSON document on stdout; progress goes to stderr. `--storage` is a SQLite file or a SQLAlchemy URL.
The default is `explorer.db` in the working folder.
"""


def commands() -> str:
    """Every command with its arguments and options."""
    from typer.main import get_command

    from studies.cli import app

    root: Any = get_command(app)
    return "\n".join([COMMANDS, *(command_section(name, command) for name, command in root.commands.items())])


def command_section(name: str, command: Any) -> str:
    """Heading, sentence, usage, and a table of the parameters."""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    shown.sort(key=lambda parameter: parameter.param_type_name != "argument")
    arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
    usage = " ".join(argument_usage(argument) for argument in arguments)
    parts = [
        f"## explorer {name}",
        clean(command.help or ""),
        f"`{' '.join(filter(None, ['explorer', name, usage, '[options]']))}`",
        "| argument or option | default | meaning |\n|---|---|---|\n" + "\n".join(row(each) for each in shown),
    ]
    return "\n\n".join(parts) + "\n"


def argument_usage(argument: Any) -> str:
    """An argument in the usage line."""
    name = argument.name.upper()
    return name if argument.required else f"[{name}]"


def row(parameter: Any) -> str:
    """One line of the table. A default that the help has in brackets goes into its own column."""
    argument = parameter.param_type_name == "argument"
    flags = [*parameter.opts, *parameter.secondary_opts]
    names = parameter.name.upper() if argument else ", ".join(f"`{flag}`" for flag in flags)
    default = parameter.default
    unsaid = parameter.required or default in (None, False, ()) or "UNSET" in repr(default)
    shown = "required" if parameter.required else "" if unsaid else f"`{default}`"
    text = clean(parameter.help or "")
    if not shown and (said := re.fullmatch(r"(.+) \[(.+)\]\.", text)):
        text, shown = f"{said[1].removesuffix('.')}.", said[2]
    return f"| {names} | {shown} | {text.replace('|', chr(92) + '|')} |"


def metric_table() -> str:
    """The table of metrics."""
    from explorer.quality.registry import METRICS

    rows = ["| name | stored as | what it is | better | pictures | needs |", "|---|---|---|---|---|---|"]
    for metric in METRICS.values():
        of = "extractor" if "features" in metric.inputs else "model" if "prompts" in metric.inputs else ""
        names = dict.fromkeys([f"{metric.family}_<{of}>", metric.standard] if of else [metric.name])
        what = metric.label + (f", in {metric.unit}" if metric.unit else "")
        better = "lower" if metric.direction == "minimize" else "higher"
        shown = ", ".join(f"`{name}`" for name in names)
        rows.append(f"| `{metric.name}` | {shown} | {what} | {better} | {metric.least} or more | {metric.needs} |")
    return "\n".join(rows)


def rule_table() -> str:
    """The table of rules."""
    from explorer.plans.rules import every_rule

    rows = ["| rule | in a plan's name | extract steps that it reads | what it is |", "|---|---|---|---|"]
    for rule in every_rule():
        shown = f"`{rule.suffix}`" if rule.suffix else "nothing"
        rows.append(f"| `{rule.name}` | {shown} | {rule.terms} | {rule.label} |")
    return "\n".join(rows)


def with_part(path: Path, name: str, text: str) -> str:
    """A page with its part `name` replaced."""
    page = path.read_text(encoding="utf-8")
    start = f"<!-- {name}: written by docs/reference.py -->\n"
    before, found, rest = page.partition(start)
    assert found, f"{path} has no part {name}"
    return before + start + text + "\n" + rest[rest.index("<!-- end -->") :]


def clean(text: str) -> str:
    """One paragraph."""
    return " ".join(text.split())


def pages() -> dict[Path, str]:
    """The text of every page that is written or has a part that is written."""
    metrics, how = DOCS / "metrics.md", DOCS / "how-it-works.md"
    return {
        DOCS / "commands.md": commands(),
        metrics: with_part(metrics, "metrics", metric_table()),
        how: with_part(how, "rules", rule_table()),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
