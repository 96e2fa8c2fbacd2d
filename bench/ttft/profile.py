"""A profile of an engine's processes, recorded by py-spy while the engine answers."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blend.errors import RequestError

SAMPLES_PER_S = 200
READY = "Sampling process"
END_S = 60.0


def check_profiler() -> None:
    """Whether a profile can be taken.

    Raises:
        RequestError: py-spy is not installed.
    """
    if shutil.which("py-spy") is None:
        raise RequestError("got no py-spy, expected it for --profile: pip install 'kvblend[bench]'")


@contextmanager
def profiled(pid: int, path: Path) -> Iterator[None]:
    """Record a process and its children; requests take longer meanwhile.

    Args:
        path: to write; a flame graph where it ends in `.svg`, else a file for speedscope.app.

    Raises:
        RequestError: py-spy is not there, or may not look at the process.
    """
    check_profiler()
    kind = "flamegraph" if path.suffix == ".svg" else "speedscope"
    where = ["--pid", f"{pid}", "--subprocesses", "--output", f"{path}", "--format", kind]
    command = ["py-spy", "record", "--rate", f"{SAMPLES_PER_S}", *where]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line)
            if READY in line:
                break
        else:
            raise _cannot(said)
        yield
    finally:
        process.send_signal(signal.SIGINT)  # it writes what it has
        said.append(process.communicate(timeout=END_S)[0])
    if not path.is_file():
        raise _cannot(said)


def _cannot(said: list[str]) -> RequestError:
    return RequestError(
        f"py-spy took no profile: {' '.join(''.join(said).split())}; it must be allowed to trace processes "
        "of yours (root, CAP_SYS_PTRACE, or kernel.yama.ptrace_scope=0)"
    )
