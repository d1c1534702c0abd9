"""Write the reference pages from the code: `python docs/reference.py` gives docs/commands.md and docs/python.md, and
the tables of other pages that are declared in the code."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PACKAGES = ("explorer", "explorer.quality", "search_spaces", "studies")

COMMANDS = """# Commands

Written by `python docs/reference.py` from the command line itself.

Exit status: 0 done; 1 an error that is explained in one sentence; 2 wrong usage; 130 interrupted, with the study whole.
`--json` prints one JSON document on stdout; progress goes to stderr. `--storage` is a SQLite file or any SQLAlchemy
URL; where none is given it is `explorer.db` in the working folder.
"""

PYTHON = """# Python

Written by `python docs/reference.py` from the packages' public names.
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
    """As a usage line writes it."""
    name = argument.name.upper()
    return name if argument.required else f"[{name}]"


def row(parameter: Any) -> str:
    """One line of the table."""
    argument = parameter.param_type_name == "argument"
    flags = [*parameter.opts, *parameter.secondary_opts]
    names = parameter.name.upper() if argument else ", ".join(f"`{flag}`" for flag in flags)
    default = parameter.default
    unsaid = parameter.required or default in (None, False, ()) or "UNSET" in repr(default)
    shown = "required" if parameter.required else "" if unsaid else f"`{default}`"
    return f"| {names} | {shown} | {clean(parameter.help or '').replace('|', chr(92) + '|')} |"


def python() -> str:
    """Every name in `__all__` of the packages, with signature and docstring."""
    parts = [PYTHON]
    for package in PACKAGES:
        module = import_module(package)
        parts.append(f"## {package}\n\n{clean(module.__doc__ or '')}\n")
        parts += [name_section(package, name, getattr(module, name)) for name in module.__all__]
    return "\n".join(parts)


def name_section(package: str, name: str, value: Any) -> str:
    """Heading with the signature, then the docstring as it stands."""
    written = inspect.getdoc(value) if callable(value) or inspect.ismodule(value) else None
    if not callable(value):
        shown = ", ".join(map(str, value)) if isinstance(value, dict | tuple | list) else str(value)
        return f"### {package}.{name}\n\n{shown}\n"
    signature = ""
    if not (inspect.isclass(value) and issubclass(value, BaseException)):
        try:
            signature = f"```text\n{name}{inspect.signature(value)}\n```\n\n"
        except ValueError:
            signature = ""
    members = [
        f"- `{key}`: {clean(inspect.getdoc(member) or '').splitlines()[0]}"
        for key, member in (vars(value).items() if inspect.isclass(value) else ())
        if not key.startswith("_") and inspect.getdoc(member) and (callable(member) or isinstance(member, PROPERTIES))
    ]
    listed = "\n" + "\n".join(members) + "\n" if members else ""
    return f"### {package}.{name}\n\n{signature}{paragraphs(written or '')}\n{listed}"


PROPERTIES = (property, classmethod, staticmethod)


def paragraphs(text: str) -> str:
    """A docstring as Markdown: `Raises:` and its indented lines become a list of their own."""
    lines, out = text.splitlines(), []
    for line in lines:
        stripped = line.strip()
        if line.startswith("    ") and stripped:
            out.append(("- " if line.startswith("    ") and not line.startswith("     ") else "  ") + stripped)
        else:
            out.append(stripped + ("\n" if stripped.endswith(":") and stripped in ("Raises:", "Returns:") else ""))
    return "\n".join(out)


def metric_table() -> str:
    """The metrics of pictures, from their declarations."""
    from explorer.quality.registry import METRICS

    rows = ["| asked for as | named | what it is | better | pictures | needs |", "|---|---|---|---|---|---|"]
    for metric in METRICS.values():
        of = "extractor" if "features" in metric.inputs else "model" if "prompts" in metric.inputs else ""
        names = dict.fromkeys([f"{metric.family}_<{of}>", metric.standard] if of else [metric.name])
        what = metric.label + (f", in {metric.unit}" if metric.unit else "")
        better = "lower" if metric.direction == "minimize" else "higher"
        shown = ", ".join(f"`{name}`" for name in names)
        rows.append(f"| `{metric.name}` | {shown} | {what} | {better} | {metric.least} or more | {metric.needs} |")
    return "\n".join(rows)


def rule_table() -> str:
    """The rules, from their declarations."""
    from explorer.plans.rules import every_rule

    rows = ["| rule | in a plan's name | extract steps that it reads | what it is |", "|---|---|---|---|"]
    for rule in every_rule():
        shown = f"`{rule.suffix}`" if rule.suffix else "nothing"
        rows.append(f"| `{rule.name}` | {shown} | {rule.terms} | {rule.label} |")
    return "\n".join(rows)


def with_part(path: Path, name: str, text: str) -> str:
    """A page that is written by hand, with its part `name` written anew."""
    page = path.read_text(encoding="utf-8")
    start = f"<!-- {name}: written by docs/reference.py -->\n"
    before, found, rest = page.partition(start)
    assert found, f"{path} has no part {name}"
    return before + start + text + "\n" + rest[rest.index("<!-- end -->") :]


def clean(text: str) -> str:
    """One paragraph."""
    return " ".join(text.split())


def pages() -> dict[Path, str]:
    """What the reference pages should hold now."""
    metrics, how = DOCS / "metrics.md", DOCS / "how-it-works.md"
    return {
        DOCS / "commands.md": commands(),
        DOCS / "python.md": python(),
        metrics: with_part(metrics, "metrics", metric_table()),
        how: with_part(how, "rules", rule_table()),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
