"""The process that a GPU day's benchmarks share: a model is loaded once, and so is torch.

Each line that it reads is a task, `{"words": [...], "log": "..."}`, and each line that it writes is how one went,
`{"status": "done"}`. What a task prints goes to its log. A task that fails ends the process, as the next would run on
what it left (a broken capture, an error of CUDA that stays): `benchmarks.gpu_day` starts another for what remains.

    python -m benchmarks.day.worker < TASKS
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any


def run_task(words: list[str]) -> str:
    """Run the main of a benchmark as `python -m` would; `done`, or `failed (status)`."""
    module, *given = words
    sys.argv = [f"{module.replace('.', '/')}.py", *given]
    try:
        from benchmarks.shared.measure import run

        run(importlib.import_module(module).main)
    except SystemExit as ended:
        if not ended.code:
            return "done"
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return f"failed ({ended.code if isinstance(ended.code, int) else 1})"
    except BaseException:
        traceback.print_exc()
        return "failed (1)"
    return "done"


def tidy() -> None:
    """Leave the next task no graphs, compiled code or memory of this one."""
    import torch

    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def write_to(log: str) -> None:
    """Everything that this process prints from here on goes to `log`, also what libraries print by themselves."""
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


def end_with_parent(parent: int) -> None:
    """End this process, and what it started, once the one that started it is gone, even killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if os.getpgid(0) == os.getpid():
            os.killpg(0, 9)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def serve(tasks: Any, answer: Callable[[dict[str, Any]], None]) -> None:
    """Run task after task until one fails."""
    from benchmarks.shared.measure import share_loading

    share_loading()
    for line in tasks:
        task = json.loads(line)
        write_to(task["log"])
        status = run_task(task["words"])
        sys.stdout.flush()
        sys.stderr.flush()
        answer({"status": status})
        if status != "done":
            return
        tidy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="tiny networks on a CPU, no captures, nothing compiled")
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    end_with_parent(os.getppid())
    if arguments.rehearse:
        from benchmarks.day.rehearsal import stand_ins

        stand_ins()

    def answer(document: dict[str, Any]) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    serve(sys.stdin, answer)


if __name__ == "__main__":
    main()
