"""`kvblend bench fidelity`: how close methods come to full prefill on a file of questions, and their cost."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.arguments import names, not_negative, positive, ratios
from blend.errors import RequestError
from blend.settings.defaults import DEFAULT_MODEL

if TYPE_CHECKING:
    from bench.fidelity.backend import Backend
    from bench.fidelity.journal import Header, Journal
    from bench.fidelity.method import Method
    from bench.fidelity.questions import DataFile
    from bench.fidelity.run import LabSettings

BACKENDS = {
    "hf": "bench.fidelity.hf_backend:HFBackend",
    "engine": "bench.fidelity.engine_backend:EngineBackend",
}
RATIOS = (0.02, 0.05, 0.15, 0.3, 0.5)
BASELINE = "cacheblend"
RANDOM = "random"
"""What every method has to beat at its budget, so it is always measured."""


def add_parser(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "fidelity",
        help="how close blends come to full prefill on a file of questions",
        description="Full prefill answers each question; every method is then measured on that answer, "
        "teacher-forced. With --out, a run that was stopped goes on where it was.",
        allow_abbrev=False,
    )
    add, count = parser.add_argument, positive
    add("--data", type=Path, required=True, metavar="FILE", help="questions as JSON lines, gzipped or not")
    add("--model", default=DEFAULT_MODEL, help="name, local folder, GGUF file or hub id")
    add("--questions", type=count, default=100, metavar="N", help="most questions (default: %(default)s)")
    add("--skip", type=not_negative, default=0, metavar="N", help="rows left out at the start of the file")
    add("--passages", type=count, default=8, metavar="K", help="chunks of a prompt (default: %(default)s)")
    add(
        "--join",
        type=count,
        default=1,
        metavar="N",
        help="passages that are one chunk (default: %(default)s)",
    )
    add(
        "--methods",
        type=names,
        default=None,
        metavar="NAME,...",
        help="or NAME@R; a default set unless given",
    )
    add("--ratios", type=ratios, default=RATIOS, metavar="R,...", help="to recompute (default: 0.02 to 0.5)")
    add("--baseline", default=None, metavar="NAME", help=f"method to compare with (default: {BASELINE})")
    add("--question-first", action="store_true", help="the question stands before the documents")
    add("--max-tokens", type=count, default=16, help="of an answer (default: %(default)s)")
    add(
        "--backend", choices=sorted(BACKENDS), default="hf", help="what runs the model (default: %(default)s)"
    )
    add("--threads", type=count, default=None, metavar="N", help="of the model, with the hf backend")
    add("--seed", type=not_negative, default=0, help="of what is drawn (default: %(default)s)")
    add("--out", type=Path, default=None, metavar="FOLDER", help="for journal, table, plots and result.json")
    add("--json", action="store_true", help="print the JSON line alone")


def run(args: argparse.Namespace) -> int:
    """Measure, write, print; returns the exit status."""
    # Imported here, since they bring torch: --help must not.
    from bench.fidelity.methods import methods
    from bench.fidelity.questions import read_questions
    from bench.fidelity.run import LabSettings, prompt_builder
    from bench.fidelity.run import run as measure
    from bench.fidelity.summary import summarise
    from bench.plot import check_plots
    from bench.progress import open_progress
    from bench.result import Result, json_line, write_result

    if args.out is not None:
        check_plots()  # before hours of measuring, not after
    data = read_questions(
        args.data,
        num=args.questions,
        skip=args.skip,
        passages=args.passages,
        join=args.join,
        seed=args.seed,
    )
    chosen = methods(_with_random(args.methods), args.ratios)
    baseline = _baseline(args.baseline, chosen)
    settings = LabSettings(question_first=args.question_first, max_tokens=args.max_tokens)
    with closing(_backend(args)) as backend:
        header = _header(args, backend, data, settings)
        with _journal(args.out, header) as journal, open_progress() as progress:
            scores = measure(backend, data.questions, chosen, journal, settings, progress)
        result = Result(header, baseline, scores, summarise(scores, baseline, args.seed))
        if args.out is not None:
            build = prompt_builder(backend.tokenizer, settings)
            write_result(args.out, result, build(data.questions[0]))
    print(json_line(result) if args.json else f"{result.table}\n\n{json_line(result)}")
    return 0


def _backend(args: argparse.Namespace) -> "Backend":
    module, _, name = BACKENDS[args.backend].partition(":")
    if args.backend == "hf":
        backend: Backend = getattr(import_module(module), name)(args.model, args.threads)
        return backend
    if args.threads is not None:
        raise RequestError(
            "got --threads with --backend engine, which takes its threads from VLLM_CPU_OMP_THREADS_BIND; "
            "set that instead"
        )
    engine: Backend = getattr(import_module(module), name)(args.model)
    return engine


def _with_random(methods: Sequence[str] | None) -> Sequence[str] | None:
    if methods is None or any(name.partition("@")[0] == RANDOM for name in methods):
        return methods
    return (*methods, RANDOM)


def _baseline(name: str | None, methods: "Sequence[Method]") -> str | None:
    """The method to compare with; the usual one only where it is measured."""
    known = {method.name for method in methods}
    if name is None:
        return BASELINE if BASELINE in known else None
    if name not in known:
        raise RequestError(
            f"got baseline {name!r}, expected a method of this run: {', '.join(sorted(known))}"
        )
    return name


def _header(
    args: argparse.Namespace, backend: "Backend", data: "DataFile", settings: "LabSettings"
) -> "Header":
    from bench.fidelity.journal import Header

    return Header(
        model=backend.model_name,
        fingerprint=backend.fingerprint,
        backend=backend.name,
        data=data.name,
        data_digest=data.digest,
        passages=args.passages,
        join=args.join,
        prefix=settings.prefix,
        question_first=settings.question_first,
        max_tokens=settings.max_tokens,
        seed=args.seed,
        threads=args.threads,
    )


@contextmanager
def _journal(folder: Path | None, header: "Header") -> "Iterator[Journal]":
    """A journal in a folder that stays, or in one that does not."""
    from bench.fidelity.journal import Journal

    with ExitStack() as stack:
        kept = folder or Path(stack.enter_context(TemporaryDirectory()))
        yield stack.enter_context(Journal(kept / "journal.jsonl", header))
