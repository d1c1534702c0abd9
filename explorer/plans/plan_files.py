"""Plans on disk and on the hub: a file, the folder of an export, or a repository. Plans are data: no code is run."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.errors import PlanError
from explorer.files import write_whole
from explorer.plans.cast import cast_students

if TYPE_CHECKING:
    from explorer.plans.plan import InheritancePlan

PLAN_FILE = "inheritance.json"
BESIDE = "students"
"""The folder beside a plan, or in a model's own one, that holds students, each in a folder of its name."""
STUDENT_FILES = ("student.json", "student.safetensors")
MAX_FILE_BYTES = 4_000_000
HUB_PATTERNS = [
    PLAN_FILE, "README.md", "pictures.png", "metrics.json", "certificate.json", "certificate.html", "reproduce.sh",
    "pipeline.py",
]  # fmt: skip
"""The files of an export that `push_to_hub` uploads. They are complete names, because `*` would also match `/` and so
the subfolders of certificates and autotune runs."""


def write_plan(plan: InheritancePlan, path: str | os.PathLike[str]) -> None:
    """Write the plan as JSON, atomically. Raises PlanError when the place cannot be written."""
    text = json.dumps(plan.to_json(), ensure_ascii=False, indent=1) + "\n"
    try:
        write_whole(Path(path), text.encode())
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte, a name that is no Unicode
        reason = getattr(error, "strerror", None) or error
        raise PlanError(f"cannot write the plan to {str(path)!r}: {reason}; choose another place.") from error


def read_document(path: str | os.PathLike[str]) -> Any:
    """The JSON document in a plan file. Raises PlanError for a missing, huge, binary or truncated file."""
    try:
        if Path(path).stat().st_size > MAX_FILE_BYTES:
            raise PlanError(f"{path} is larger than any plan ({MAX_FILE_BYTES} bytes); give a plan file.")
        text = Path(path).read_text(encoding="utf-8-sig")  # some editors begin a file with a byte-order mark
    except OSError as error:
        raise PlanError(f"cannot read the plan {path}: {error.strerror}; check the path.") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is not a text file; give a plan's JSON file.") from error
    except ValueError as error:
        raise PlanError(f"{str(path)!r} is not a path ({error}); give a plan's JSON file.") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path} is not a complete JSON file ({error}); it may be cut off, export it again.") from error


def find_plan(place: str | os.PathLike[str], *, revision: str | None = None, token: str | None = None) -> Path:
    """The plan file that `place` names: itself, the one in that folder, or that of a hub repository (`owner/name`, the
    only case that uses the network).

    Raises:
        PlanError: when there is none.
    """
    text = os.fspath(place)
    try:
        path = Path(text).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (ValueError, RuntimeError) as error:
        raise PlanError(f"{text!r} is not a path ({error}); give a plan's file or folder.") from error
    if is_file:
        return path
    if is_folder:
        if not (path / PLAN_FILE).is_file():
            raise PlanError(f"the folder {text} holds no plan ({PLAN_FILE}); give the folder of an `explorer export`.")
        return path / PLAN_FILE
    if not is_hub_id(text):
        raise PlanError(f"there is no plan at {text!r}; give a plan's file, its folder or a hub id (owner/name).")
    return _download(text, revision, token)


def is_hub_id(text: str) -> bool:
    """Whether a text that is no path here reads as `owner/name`."""
    parts = text.split("/")
    return len(parts) == 2 and all(parts) and not text.startswith((".", "~", "/")) and not text.endswith(".json")


def _download(repository: str, revision: str | None, token: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, PLAN_FILE, revision=revision, token=token))
    except Exception as error:  # the hub client raises its own types, requests' and the system's for one thing
        raise PlanError(
            f"there is no plan at {repository!r}: no such file or folder here, and the hub gave none "
            f"({_first_line(error)}); check the name and the connection."
        ) from error


def fetch_folder(repository: str, files: Sequence[str]) -> Path:
    """The folder of a hub repository's copy here, with those of `files` that it has. Raises PlanError."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=[*files]))
    except Exception as error:
        raise PlanError(
            f"the hub did not give what stands beside the plan of {repository!r} ({_first_line(error)}); check the "
            "connection."
        ) from error


def push(
    plan: InheritancePlan,
    repository: str,
    *,
    folder: str | os.PathLike[str] | None = None,
    private: bool | None = None,
    token: str | None = None,
    message: str | None = None,
    api: Any = None,
) -> str:
    """Upload the plan to the hub repository `owner/name`, which is created if needed, and return its address.

    Args:
        plan: The plan.
        repository: `owner/name`.
        folder: An export of the same plan, whose card, certificate and scripts are uploaded too.
        private: Whether a new repository is private.
        token: Access token of the hub.
        message: Message of the commit.
        api: The hub client.

    Raises:
        PlanError: For a name that is not a hub id, the folder of another plan, or when the hub refuses.
    """
    if not is_hub_id(repository):
        raise PlanError(f"{repository!r} is not a hub id; expected owner/name.")
    if folder is not None and type(plan).load(find_plan(folder)) != plan:
        raise PlanError(f"the folder {os.fspath(folder)} holds another plan; give the folder that this one came from.")
    if api is None:
        from huggingface_hub import HfApi

        api = HfApi(token=token)
    message = message or f"Inheritance plan: {plan.describe()}"
    try:
        address = api.create_repo(repo_id=repository, private=private, exist_ok=True)
        if folder is None:
            content = (json.dumps(plan.to_json(), ensure_ascii=False, indent=1) + "\n").encode()
            api.upload_file(path_or_fileobj=content, path_in_repo=PLAN_FILE, repo_id=repository, commit_message=message)
        else:
            students = [f"{BESIDE}/{name}/{file}" for name in cast_students(plan.cast) for file in STUDENT_FILES]
            api.upload_folder(
                repo_id=repository, folder_path=os.fspath(folder), allow_patterns=HUB_PATTERNS + students,
                commit_message=message,
            )  # fmt: skip
    except Exception as error:
        raise PlanError(f"the hub refused the plan for {repository} ({_first_line(error)}); log in.") from error
    return str(address)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
