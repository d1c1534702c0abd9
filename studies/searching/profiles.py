"""Profiles in the storage: one for each model, workload and device, measured once and reused.

`measured_profile` gives the profile of a model and workload on this machine, and measures it where there is none;
`standing_profile` gives that of a search's session or None.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from explorer.compile_modes import CompileMode
from explorer.errors import ScoreError
from explorer.models.workload import Workload, is_guided
from explorer.timing.profile import Profile
from studies.config import absolute
from studies.device_lock import on_device
from studies.storage.store import Store
from studies.storage.tables import profiles

if TYPE_CHECKING:
    from explorer.devices import DeviceInfo
    from explorer.timing.profiling import ProfileProgress
    from studies.searching.session import Session


def profile_key(fingerprint: str, workload: Workload, info: DeviceInfo) -> str:
    """The hash of what must be equal for a profile to hold: weights, workload, device, driver and torch, and on a CPU
    its threads. Which of several GPUs of a kind it was does not matter."""
    facts = workload.to_json() | {
        "weights": fingerprint,
        "device": [info.kind, info.name, info.driver, info.torch, info.threads if info.kind == "cpu" else None],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def find_profile(store: Store, key: str) -> Profile | None:
    """The profile under `key`, complete or interrupted. Raises ScoreError for one that cannot be read."""
    found = store.read(sa.select(profiles.c.document).where(profiles.c.key == key))
    return Profile.from_json(found[0].document) if found else None


def newest_profile(
    store: Store,
    model: str,
    architecture: str,
    resolution: tuple[int, int] | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    compile: CompileMode | None = None,
) -> Profile | None:
    """The complete profile of a model that was measured last, of those that have what is given. device: its kind and
    name as in a study's settings (`cuda: NVIDIA H200`)."""
    model = absolute(model) or model
    query = sa.select(profiles.c.document).where(
        profiles.c.model == model, profiles.c.architecture == architecture, profiles.c.complete.is_(True)
    )
    found = [Profile.from_json(row.document) for row in store.read(query.order_by(profiles.c.updated.desc()))]

    def fits(profile: Profile) -> bool:
        workload = profile.workload
        has = (workload.resolution, f"{profile.device.kind}: {profile.device.name}", workload.dtype, workload.compile)
        wanted = (resolution, device, dtype, compile)
        return all(want in (None, have) for want, have in zip(wanted, has, strict=True))

    return next((profile for profile in found if fits(profile)), None)


def save_profile(store: Store, profile: Profile) -> None:
    """Keep the profile as it is, in the place of an earlier one of the same key."""
    key = profile_key(profile.fingerprint, profile.workload, profile.device)
    device_id = store.device(profile.device.to_json())
    row = {
        "key": key,
        "model": profile.model,
        "architecture": profile.architecture.signature,
        "complete": profile.complete,
        "document": profile.to_json(),
        "device_id": device_id,
        "updated": time.time(),
    }
    update = sa.update(profiles).where(profiles.c.key == key).values(row)

    def write(connection: Connection, _again: bool) -> None:
        if connection.execute(update).rowcount == 0:
            try:
                with connection.begin_nested():
                    connection.execute(sa.insert(profiles).values(row))
            except sa.exc.IntegrityError:  # another process was quicker
                connection.execute(update)

    store.transact(write)


def measured_profile(
    store: Store,
    pipe: Any,
    model: str,
    workload: Workload,
    *,
    steps: int,
    rounds: int | None = None,
    again: bool = False,
    on_progress: Callable[[ProfileProgress], None] | None = None,
) -> Profile:
    """The profile of `pipe` at `workload`: the one that exists, the rest of an interrupted one, or a new one.

    Every round is kept as it is measured, so that an interrupt loses only the round in hand. again: measure anew.

    Raises:
        ExplorerError: when it cannot be measured or kept.
    """
    from explorer.devices import describe, resolve_device
    from explorer.models.loading import fingerprint
    from explorer.timing.profiling import profile_pipeline

    info = describe(resolve_device(workload.device))
    started = None if again else find_profile(store, profile_key(fingerprint(pipe), workload, info))
    if started is not None and started.complete:
        return started
    with on_device(info):
        return profile_pipeline(
            pipe, absolute(model) or model, workload, steps=steps, rounds=rounds, started=started,
            on_progress=on_progress, on_round=lambda profile: save_profile(store, profile),
        )  # fmt: skip


def session_workload(session: Session) -> Workload:
    """What the session's latencies are measured at."""
    evaluator, settings = session.evaluator, session.settings
    return Workload(
        evaluator.latency_batch, settings.resolution, str(evaluator.device), settings.dtype, evaluator.compile
    )


def standing_profile(session: Session, store: Store) -> Profile | None:
    """The complete profile of the session's model, workload and device, if there is one in the storage. Profiles are
    measured with guidance, so a search without it has none."""
    from explorer.models.loading import fingerprint

    if not is_guided(session.evaluator.guidance):
        return None
    key = profile_key(fingerprint(session.evaluator.pipe), session_workload(session), session.info)
    found = find_profile(store, key)
    return found if found is not None and found.complete else None


def with_profile(session: Session, store: Store) -> Session:
    """The session with the profile that is stored for it: predictions are kept beside measurements, and proposals are
    screened by them. A profile that cannot be read is none."""
    with suppress(ScoreError):
        found = standing_profile(session, store)
        if found is not None:
            return replace(session, evaluator=session.evaluator.with_profile(found))
    return session
