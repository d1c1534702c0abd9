"""Who scores what: the queue of plans, its workers, and Optuna's mirror of it."""
