"""The explorer's tables, beside Optuna's own in one database. A change here needs a migration in `migrations/`.

Times are seconds since the epoch (UTC). `explorer_plans` is the queue and the record at once: a row's state says
whether the plan waits, is being scored by `worker_id`, waits for its latency (`untimed`: its quality was measured,
on another device), is `unsteady` (other work on the machine disturbed its timings, so it waits to be timed again and is
on no front), or is finished: done, failed, or screened (a race dropped it on few prompts; its measurements are kept).
`UNIQUE (study_id, key)` keeps a plan from being scored twice by any number of workers.
"""

from __future__ import annotations

import sqlalchemy as sa

WAITING, RUNNING, UNTIMED, DONE, FAILED = "waiting", "running", "untimed", "done", "failed"
SCREENED, UNSTEADY = "screened", "unsteady"
FINISHED = (DONE, FAILED, SCREENED)
PARENTS = "parents"  # the attribute of one of Optuna's trials that names those it was crossed from

metadata = sa.MetaData()


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True)


devices = sa.Table(
    "explorer_devices",
    metadata,
    _id(),
    sa.Column("fingerprint", sa.String(64), nullable=False, unique=True),  # hash of name and details
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("details", sa.JSON, nullable=False),  # driver, torch, threads ...
    sa.Column("created", sa.Double, nullable=False),
)

studies = sa.Table(
    "explorer_studies",
    metadata,
    _id(),
    sa.Column("name", sa.String(100), nullable=False, unique=True),
    sa.Column("settings", sa.JSON, nullable=False),  # StudySettings.to_json()
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("folder", sa.String(120), nullable=False, server_default=""),  # of its files; empty: called by its name
)

workers = sa.Table(
    "explorer_workers",
    metadata,
    _id(),
    sa.Column("study_id", sa.Integer, sa.ForeignKey("explorer_studies.id"), nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),  # 0, 1, ... within the study, over all of its runs
    sa.Column("host", sa.String(200), nullable=False),  # where `pid` means something
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("process_started", sa.Double, nullable=False),  # tells a reused pid from this worker
    sa.Column("heartbeat", sa.Double, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),  # running | stopped | dead
    sa.Column("device_id", sa.Integer, sa.ForeignKey("explorer_devices.id"), nullable=True),
    sa.UniqueConstraint("study_id", "number"),
)

plans = sa.Table(
    "explorer_plans",
    metadata,
    _id(),
    sa.Column("study_id", sa.Integer, sa.ForeignKey("explorer_studies.id"), nullable=False),
    sa.Column("key", sa.String(100), nullable=False),  # the canonical plan's hash
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("parameters", sa.JSON, nullable=True),  # of the space; null: the plan lies outside of it
    sa.Column("words", sa.Text, nullable=False),
    sa.Column("origin", sa.String(10), nullable=False),  # baseline | search
    sa.Column("name", sa.String(200), nullable=True),
    sa.Column("aliases", sa.JSON, nullable=False),  # names of further baselines that come to the same plan
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("reason", sa.Text, nullable=True),  # why it failed, was screened out or is unsteady
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),  # workers that ended while scoring it
    sa.Column("trial_number", sa.Integer, nullable=True),  # Optuna's
    sa.Column("worker_id", sa.Integer, sa.ForeignKey("explorer_workers.id"), nullable=True),
    sa.Column("claimed", sa.Double, nullable=True),
    sa.Column("finished", sa.Double, nullable=True),
    sa.Column("proposed_by", sa.String(40), nullable=True),  # a kind of `studies.proposing.proposers`; null: a baseline
    # `studies.storage.facts.PlanFacts`. The defaults serve workers of earlier versions that still run after a
    # migration.
    sa.Column("nickname", sa.Text, nullable=True),
    sa.Column("mode", sa.String(20), nullable=False, server_default="other"),
    sa.Column("form", sa.String(20), nullable=False, server_default="other"),
    sa.Column("rule", sa.String(20), nullable=False, server_default="other"),
    sa.Column("steps", sa.Integer, nullable=True),
    sa.Column("scheduler", sa.String(80), nullable=True),  # null: the pipeline's own
    sa.Column("networks", sa.JSON, nullable=False, server_default='["teacher"]'),
    sa.Column("spacing", sa.String(40), nullable=True),  # null: the scheduler's own
    sa.UniqueConstraint("study_id", "key"),
    sa.Index("explorer_plans_by_state", "study_id", "state"),
)

measurements = sa.Table(
    "explorer_measurements",
    metadata,
    _id(),
    sa.Column("plan_id", sa.Integer, sa.ForeignKey("explorer_plans.id"), nullable=False),
    sa.Column("metric", sa.String(100), nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("low", sa.Double, nullable=False),
    sa.Column("high", sa.Double, nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("extractor", sa.String(200), nullable=True),
    sa.Column("seconds", sa.Double, nullable=True),  # what the measurement cost
    sa.Column("samples", sa.JSON, nullable=True),  # raw samples, latency's for one
    sa.Column("device_id", sa.Integer, sa.ForeignKey("explorer_devices.id"), nullable=True),
    sa.UniqueConstraint("plan_id", "metric"),
)

pictures = sa.Table(
    "explorer_pictures",
    metadata,
    _id(),
    sa.Column("plan_id", sa.Integer, sa.ForeignKey("explorer_plans.id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),  # of the prompt
    sa.Column("path", sa.Text, nullable=False),  # relative to the store's folder, with forward slashes
    sa.Column("thumbnail", sa.Text, nullable=False),
    sa.Column("prompt", sa.Text, nullable=True),
    sa.Column("seed", sa.BigInteger, nullable=True),
    sa.UniqueConstraint("plan_id", "number"),
)

findings = sa.Table(
    "explorer_findings",
    metadata,
    _id(),
    sa.Column("study_id", sa.Integer, sa.ForeignKey("explorer_studies.id"), nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),  # anatomy | sensitivity | floor
    sa.Column("value", sa.JSON, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.UniqueConstraint("study_id", "kind"),
)

profiles = sa.Table(
    "explorer_profiles",
    metadata,
    _id(),
    sa.Column("key", sa.String(64), nullable=False, unique=True),  # hash of what must be equal, see Profiles
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("architecture", sa.String(12), nullable=False),  # its signature
    sa.Column("complete", sa.Boolean, nullable=False),  # false: interrupted, to be gone on with
    sa.Column("document", sa.JSON, nullable=False),  # Profile.to_json(), every sample
    sa.Column("device_id", sa.Integer, sa.ForeignKey("explorer_devices.id"), nullable=False),
    sa.Column("updated", sa.Double, nullable=False),
)

calibrations = sa.Table(
    "explorer_calibrations",
    metadata,
    _id(),
    sa.Column("study_id", sa.Integer, sa.ForeignKey("explorer_studies.id"), nullable=False),
    sa.Column("part", sa.String(100), nullable=False),  # moments/0, errors/0, plain/25: resumed part by part
    sa.Column("facts", sa.JSON, nullable=False),  # what it was made for, and with which design
    sa.Column("data", sa.LargeBinary, nullable=False),  # arrays, as safetensors
    sa.Column("sha256", sa.String(64), nullable=False),  # of `data`
    sa.Column("seconds", sa.Double, nullable=False),  # what it cost
    sa.Column("created", sa.Double, nullable=False),
    sa.UniqueConstraint("study_id", "part"),
)
