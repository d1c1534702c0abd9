"""A model of the hub: which of its files are needed, and their copies in the cache of this machine."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import ModelError


@dataclass(frozen=True)
class Listing:
    """The files of a hub repository. unreached: why the hub could not be asked, in which case they are the cache's."""

    files: tuple[str, ...]
    unreached: Exception | None = None


@functools.lru_cache(maxsize=16)
def listing(repo: str) -> Listing:
    """What a hub repository holds. The hub is asked once in a process: where it cannot be reached, the cache is all
    that is read from then on, without waiting for it again.

    Raises:
        ModelError: when the hub has no such repository, or does not give it.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import OfflineModeIsEnabled

    with explained(repo):
        try:
            return Listing(tuple(HfApi().list_repo_files(repo)))
        except Exception as error:
            if not isinstance(error, OfflineModeIsEnabled) and not _is_connection(error):
                raise
            folder = Path(hf_hub_download(repo, "model_index.json", local_files_only=True)).parent
            files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
            return Listing(tuple(files), error)


def fetch_json(repo: str, path: str) -> Any:
    """A small JSON file of a hub repository.

    Raises:
        ModelError: when it cannot be had, with the reason.
    """
    from huggingface_hub import hf_hub_download

    file = _fetched(repo, functools.partial(hf_hub_download, repo, path))
    with explained(repo):
        return json.loads(file.read_text(encoding="utf-8"))


def fetch_files(repo: str, patterns: Sequence[str]) -> Path:
    """The folder in the cache with the files of a hub repository that match `patterns`; downloads those it lacks.

    Raises:
        ModelError: when they cannot be had, with the reason.
    """
    from huggingface_hub import snapshot_download

    return _fetched(repo, functools.partial(snapshot_download, repo, allow_patterns=list(patterns)))


def _fetched(repo: str, fetch: Callable[..., str]) -> Path:
    """What `fetch` gives: from the cache alone where the hub is known to be out of reach."""
    unreached = listing(repo).unreached
    with explained(repo):
        try:
            return Path(fetch(local_files_only=unreached is not None))
        except Exception as error:
            if unreached is None:
                raise
            raise unreached from error


@contextlib.contextmanager
def explained(name: str | Path, wanted: str = "") -> Iterator[None]:
    """Turn what loaders raise into one sentence with the reason and what to do.

    Args:
        name: What is loaded, as the user named it.
        wanted: What is fetched from the hub for it, where that is something else.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        reason = _hub_problem(error, wanted or str(name))
        if reason is not None:
            raise ModelError(f"cannot load {name}: {reason}") from error
        raise ModelError(
            f"cannot load {name} ({type(error).__name__}: {_first_line(error)}); check that it is a complete Stable "
            "Diffusion pipeline with safetensors weights, or copy it again."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from, the outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _hub_problem(error: Exception, repo: str) -> str | None:
    """Why the hub did not give a file, and what to do; None where that is not the trouble."""
    import errno

    from huggingface_hub import constants, errors

    chain = list(_causes(error))

    def among(*kinds: type[BaseException]) -> BaseException | None:
        return next((each for each in chain if isinstance(each, kinds)), None)

    folder = f"give a local folder (hf download {repo} --local-dir FOLDER, on a machine with a connection)"
    if among(errors.GatedRepoError):
        return (
            f"access to {repo} is restricted; accept its terms at {constants.ENDPOINT}/{repo}, then log in with `hf "
            "auth login`."
        )
    if among(errors.RepositoryNotFoundError):
        return (
            f"the hub has no public model {repo}; check its spelling, or log in with `hf auth login` if it is private."
        )
    if among(errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError):
        return f"{repo} on the hub is not a complete diffusers pipeline ({_first_line(error)}); give a complete one."
    answer = among(errors.HfHubHTTPError)
    if isinstance(answer, errors.HfHubHTTPError):
        return f"the hub answered with status {answer.response.status_code} for {repo}; try again later, or {folder}."
    if among(errors.OfflineModeIsEnabled) or (constants.HF_HUB_OFFLINE and among(errors.LocalEntryNotFoundError)):
        return (
            f"HF_HUB_OFFLINE is set and not all files of {repo} are in the cache {constants.HF_HUB_CACHE}; unset it, "
            f"or {folder}."
        )
    full = next((each for each in chain if isinstance(each, OSError) and each.errno == errno.ENOSPC), None)
    if full is not None:
        return f"the disk of the cache {constants.HF_HUB_CACHE} is full; make room, or set HF_HOME to another disk."
    connection = next((each for each in reversed(chain) if _is_connection(each)), None)
    if connection is not None:
        return (
            f"the hub cannot be reached ({type(connection).__name__}: {_first_line(connection)}) and not all files of "
            f"{repo} are in the cache; check the connection, the proxy and HF_ENDPOINT ({constants.ENDPOINT}), or "
            f"{folder}."
        )
    if among(errors.LocalEntryNotFoundError):
        return f"not all files of {repo} are in the cache {constants.HF_HUB_CACHE}; connect to the hub, or {folder}."
    return None


def _is_connection(error: BaseException) -> bool:
    """Whether an error is a network's: of the sockets, or of whichever HTTP client the hub's library uses."""
    network = (ConnectionError, TimeoutError)
    clients = ("httpx", "httpx2", "httpcore", "requests", "urllib3")
    named = type(error).__module__.partition(".")[0] in clients
    kinds = ("Connect", "Timeout", "Network", "Proxy", "Protocol", "SSL", "Read")
    if type(error).__module__ == "socket" and type(error).__name__ == "gaierror":
        return True
    return isinstance(error, network) or (named and any(kind in type(error).__name__ for kind in kinds))
