"""The one exception family. A message names what was given, what was expected, and what to do."""

from __future__ import annotations


class ExplorerError(Exception):
    """Base of every error that a user can cause and mend; the command line prints it and exits with status 1."""


class PlanError(ExplorerError):
    """A plan, mask, schedule or rule that cannot be made, loaded or applied."""


class ModelError(ExplorerError):
    """A model that cannot be found, loaded or read into a program."""


class ScoreError(ExplorerError):
    """A metric, reference or measurement that cannot be had."""


class PromptError(ExplorerError):
    """A prompt file that cannot be used."""


class StudyError(ExplorerError):
    """A study or storage that cannot be opened, resumed or written."""


class DeviceError(ExplorerError):
    """A device or dtype that this machine does not have."""
