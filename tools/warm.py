"""Run Python programs in processes that have PyTorch imported already, which saves each of them seconds.

A server, started once, imports what is heavy and forks itself for each program (multiprocessing's forkserver). The
programs are processes like any other: they can be killed and limited, and join in a group.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

HEAVY = ["torch", "audio_core.train.fit", "audio_core.train.watch", "audio_core.data.segments"]
HEAVY += ["torch._dynamo", "torch.utils.tensorboard"]
if sys.platform == "win32":  # which cannot fork: every program imports what it needs
    CONTEXT = multiprocessing.get_context("spawn")
else:
    CONTEXT = multiprocessing.get_context("forkserver")
    CONTEXT.set_forkserver_preload(HEAVY)


def run(*program: object, processes: int = 1, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run a program (`-c CODE`, `-m MODULE` or a script, then its arguments) to its end.

    Several `processes` find each other as under torchrun; the result is then that of the first one that fails.
    """
    group = {}
    if processes > 1:
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        group |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    ranks = [{**group, "RANK": str(rank), "LOCAL_RANK": str(rank)} if group else {} for rank in range(processes)]
    started = [start(program, own) for own in ranks]
    with ThreadPoolExecutor(2 * processes) as pool:  # a full pipe would stop its writer
        texts = [tuple(pool.submit(_text, pipe) for pipe in pipes) for _, *pipes in started]
        for process, *_ in started:
            process.join(timeout)
            if process.is_alive():
                for each, *_ in started:
                    each.kill()
                raise subprocess.TimeoutExpired([*map(str, program)], timeout)
    codes = [process.exitcode or 0 for process, *_ in started]
    failed = next((rank for rank, code in enumerate(codes) if code), 0)
    output, errors = (text.result() for text in texts[failed])
    return subprocess.CompletedProcess([*map(str, program)], codes[failed], output, errors)


def start(program: Sequence[object], own: dict[str, str] | None = None) -> tuple[BaseProcess, Connection, Connection]:
    """The process of a program, with `own` further variables in its environment; its standard output and error."""
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(2)]
    place = {**os.environ, **(own or {})}, str(Path.cwd())
    process = CONTEXT.Process(target=_main, args=([*map(str, program)], *place, *(ours for _, ours in pipes)))
    process.start()
    for _, ours in pipes:
        ours.close()
    return process, pipes[0][0], pipes[1][0]


def _text(pipe: Connection) -> str:
    with pipe, open(pipe.fileno(), encoding="utf-8", closefd=False) as stream:
        return stream.read()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _main(program: list[str], environment: dict[str, str], folder: str, output: Connection, errors: Connection) -> None:
    """In the new process: become the program."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, pipe in ((1, output), (2, errors)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115 (as long as the process)
    kind, *rest = program
    try:
        if kind == "-c":
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<program>", "exec"), {"__name__": "__main__"})
        elif kind == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = program
            runpy.run_path(kind, run_name="__main__")
    except Exception:
        traceback.print_exc()
        sys.exit(1)
