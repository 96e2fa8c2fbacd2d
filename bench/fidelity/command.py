"""`kvblend bench fidelity`: how close methods come to full prefill on a file of questions, and their cost."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import add_ending, add_questions, names, positive, ratios
from bench.progress import open_progress
from bench.report import finish, prepare_out
from blend.errors import RequestError

if TYPE_CHECKING:
    from bench.fidelity.backend import Backend
    from bench.fidelity.journal import Header
    from bench.fidelity.methods import Method
    from bench.fidelity.question import LabPrompt
    from bench.fidelity.scores import Scores
    from bench.fidelity.summary import Summary

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
    add_questions(parser, num=100, required=True)
    add, count = parser.add_argument, positive
    add("--join", type=count, default=1, metavar="N", help="passages per chunk (default: %(default)s)")
    add("--methods", type=names, metavar="NAME,...", help="NAME or NAME@RATIO; a default set unless given")
    add("--ratios", type=ratios, default=RATIOS, metavar="R,...", help="to recompute (default: 0.02 to 0.5)")
    add("--baseline", metavar="NAME", help=f"method to compare with (default: {BASELINE})")
    add("--question-first", action="store_true", help="put the question before the documents")
    add("--backend", choices=sorted(BACKENDS), default="hf", help="runs the model (default: %(default)s)")
    add("--threads", type=count, default=None, metavar="N", help="of the model, with the hf backend")
    add_ending(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns the exit status."""
    # Imported here, since they bring torch: --help must not.
    from bench.fidelity.methods import methods
    from bench.fidelity.summary import summarise
    from bench.fidelity.table import as_object, render_table

    prepare_out(args.out)
    chosen = methods(_with_random(args.methods), args.ratios)
    baseline = _baseline(args.baseline, chosen)
    header, scores, first_prompt = _measure(args, chosen)
    summaries = summarise(scores, baseline, args.seed)
    line = {
        "bench": "fidelity",
        "model": header.model,
        "data": header.data,
        "n": len({one.question for one in scores}),
        "full_f1": summaries[0].full_f1,
        "methods": [as_object(one) for one in summaries],
    }
    details = {
        "header": asdict(header),
        "baseline": baseline,
        "summaries": [asdict(one) for one in summaries],
    }
    text = render_table(summaries, baseline)
    finish(args, text, line, details, lambda folder: _draw(folder, summaries, scores, first_prompt))
    return 0


def _measure(
    args: argparse.Namespace, methods: "Sequence[Method]"
) -> "tuple[Header, list[Scores], LabPrompt]":
    """What was measured and how, the scores, and the first question's prompt."""
    from bench.fidelity.journal import Header, open_journal
    from bench.fidelity.questions import read_questions
    from bench.fidelity.run import LabSettings, prompt_builder
    from bench.fidelity.run import run as measure
    from bench.fidelity.scores import Scores

    sizes = {"passages": args.passages, "join": args.join, "seed": args.seed}
    data = read_questions(args.data, num=args.questions, skip=args.skip, **sizes)
    settings = LabSettings(question_first=args.question_first, max_tokens=args.max_tokens)
    with closing(_backend(args)) as backend:
        header = Header(
            model=backend.model_name,
            fingerprint=backend.fingerprint,
            backend=backend.name,
            data=data.name,
            data_digest=data.digest,
            **asdict(settings),
            **sizes,
            threads=args.threads,
        )
        with open_journal(args.out, header, Scores.from_json) as journal, open_progress() as progress:
            scores = measure(backend, data.questions, methods, journal, settings, progress)
        return header, scores, prompt_builder(backend.tokenizer, settings)(data.questions[0])


def _draw(
    folder: Path, summaries: "Sequence[Summary]", scores: "Sequence[Scores]", prompt: "LabPrompt"
) -> None:
    from bench.fidelity.plots import plot_kl, plot_layer_errors, plot_picks

    plot_kl(summaries, folder / "kl_by_ratio.png")
    plot_picks(prompt, [one for one in scores if one.question == prompt.key], folder / "picks.png")
    if any(one.key_error for one in summaries):  # the engine does not show its keys and values
        plot_layer_errors(summaries, folder / "layer_errors.png")


def _backend(args: argparse.Namespace) -> "Backend":
    module, _, name = BACKENDS[args.backend].partition(":")
    backend: Backend
    if args.backend == "hf":
        backend = getattr(import_module(module), name)(args.model, args.threads)
        return backend
    if args.threads is not None:
        raise RequestError(
            "got --threads with --backend engine, which takes its threads from VLLM_CPU_OMP_THREADS_BIND; "
            "set that instead"
        )
    backend = getattr(import_module(module), name)(args.model)
    return backend


def _with_random(methods: Sequence[str] | None) -> Sequence[str] | None:
    if methods is None or any(name.partition("@")[0] == RANDOM for name in methods):
        return methods
    return (*methods, RANDOM)


def _baseline(name: str | None, methods: "Sequence[Method]") -> str | None:
    """The method to compare with; the default one only where it is measured."""
    known = {method.name for method in methods}
    if name is None:
        return BASELINE if BASELINE in known else None
    if name not in known:
        raise RequestError(
            f"got baseline {name!r}, expected a method of this run: {', '.join(sorted(known))}"
        )
    return name
