"""`explorer proxy`: Optuna's gRPC proxy in front of a storage."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.storages import get_storage, run_grpc_proxy_server

from explorer.errors import StudyError
from studies.commands.output import words
from studies.database import PROXY_VARIABLE, optuna_storage
from studies.interrupts import interruptible
from studies.store import Store


def run_proxy(storage: str, host: str, port: int) -> None:
    """Serve Optuna's part of a storage until interrupted.

    Raises:
        StudyError: when the storage cannot be opened, gRPC is not installed or the port cannot be had.
    """
    if not 1 <= port <= 65535:
        raise StudyError(f"--port must be from 1 to 65535, got {port}.")
    warnings.simplefilter("ignore", ExperimentalWarning)
    with Store.open(storage) as store, interruptible():
        words().print(f"serving Optuna's part of {store.where}: {PROXY_VARIABLE}={host}:{port}", markup=False)
        try:
            run_grpc_proxy_server(get_storage(optuna_storage(store.url)), host=host, port=port)
        except ImportError as error:
            raise StudyError("the proxy needs gRPC: pip install 'inheritance-explorer[proxy]'.") from error
        except RuntimeError as error:  # gRPC's, for an address that is taken or not this machine's
            raise StudyError(f"cannot listen on {host}:{port}; is the port taken? Give another --port.") from error
