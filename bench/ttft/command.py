"""`kvblend bench ttft`: how soon the first token comes, from blends, full prefill and prefix caching."""

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import add_ending, names, positive, ratios
from bench.processes import redis_server
from bench.progress import tell
from bench.report import finish, prepare_out
from bench.ttft.case import ALL_TIERS, Case, check_tier
from bench.ttft.sweeps import COMPARE, SWEEPS, cases_of
from blend.errors import RequestError
from blend.plan.sharing import Sharing
from blend.settings.defaults import DEFAULT_MODEL

if TYPE_CHECKING:
    from bench.ttft.backend import Backend
    from bench.ttft.prompts import PromptMaker, Texts
    from bench.ttft.run import Outcome
    from bench.ttft.summary import Summary

BACKEND = "bench.ttft.engines:VllmEngines"
MAX_QUESTIONS = 200
"""Read from a data file; more would not make prompts more varied."""


def add_parser(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "ttft",
        help="how soon the first token comes, against full prefill and prefix caching",
        description="Two engines with the same CPU binding, stock vLLM and kvblend in it, answer the same "
        "prompts, alternating: novel combinations of precomputed chunks.",
        allow_abbrev=False,
    )
    add, count = parser.add_argument, positive
    add("--model", default=DEFAULT_MODEL, help="name, local folder, GGUF file or hub id")
    add(
        "--sweep",
        choices=list(SWEEPS),
        default=COMPARE,
        help="what is varied (default: %(default)s, nothing)",
    )
    add("--points", type=names, metavar="P,...", help="values of the sweep: 4x512, 2048, 0.5, memory, 8")
    add("--chunks", type=count, default=6, metavar="K", help="of a prompt (default: %(default)s)")
    add("--tokens", type=count, default=512, metavar="N", help="of a chunk (default: %(default)s)")
    add("--question-tokens", type=count, default=30, metavar="N", help="(default: %(default)s)")
    add("--ratios", type=ratios, metavar="R,...", help="to recompute (default: 0.05 to 0.3; 0.15 in sweeps)")
    add("--repeat", type=count, default=5, metavar="N", help="of each arm and case (default: %(default)s)")
    add(
        "--tier",
        choices=ALL_TIERS,
        default="memory",
        help="where chunks are read from (default: %(default)s)",
    )
    add("--redis", metavar="URL", help="server of the redis tier; one is started unless given")
    add("--stream", type=count, default=20, metavar="N", help="prompts of prefix caching (default: 20)")
    add("--pool", type=count, default=24, metavar="N", help="chunks that these draw from (default: 24)")
    add("--data", type=Path, metavar="FILE", help="questions as JSON lines, whose text makes the prompts")
    add("--store", type=Path, metavar="FOLDER", help="keeps the chunks (default: a temporary folder)")
    add("--share-blends", choices=tuple(Sharing), default=Sharing.NO.value, help="(default: %(default)s)")
    add("--profile", type=Path, metavar="FILE", help="profile of one blend: .svg, else for speedscope")
    add_ending(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns the exit status."""
    # Imported here, since they bring torch: --help must not.
    from bench.ttft.cpu import disturbance
    from bench.ttft.profile import check_profiler
    from bench.ttft.prompts import PromptMaker
    from bench.ttft.summary import growth, summarise
    from bench.ttft.table import render_table

    prepare_out(args.out)
    if args.profile is not None:
        check_profiler()
    if args.sweep == COMPARE and args.pool < args.chunks:
        raise RequestError(f"got a pool of {args.pool} chunks, expected at least {args.chunks}: use --pool")
    base = Case(args.chunks, args.tokens, args.question_tokens, tier=check_tier(args.tier))
    texts = _texts(args)
    tell("starting an engine")
    with _redis(args) as server, closing(_backend(args, server)) as backend:
        maker = PromptMaker(backend.tokenizer, texts, args.seed)
        outcome = _measure(args, backend, maker, base)
        rows = summarise(outcome.measured, backend.shape)
        model, version = backend.model_name, backend.version
    if warning := disturbance(outcome.idle_share):
        tell(warning)
    exponents = growth(rows) if args.sweep == "context" else {}
    line = {
        "bench": "ttft",
        "model": model,
        "core_ids": list(outcome.threads.core_ids),
        "threads": outcome.threads.num,
        "engine": version,
        "data": texts.name,
        "sweep": args.sweep,
        "repeat": args.repeat,
        "idle_cpu_share": dict(outcome.idle_share),
        "growth": exponents,
        "arms": [row.to_json() for row in rows],
    }
    finish(args, render_table(rows, exponents), line, draw=lambda folder: _draw(rows, folder))
    return 0


def _draw(rows: "Sequence[Summary]", folder: Path) -> None:
    from bench.ttft.plots import plot_known, plot_lengths, plot_stages

    plot_stages(rows, folder / "stages.png")
    if len({row.case.chunk_tokens for row in rows}) > 1:
        plot_lengths(rows, folder / "ttft_by_context.png")
    if len({row.case.known for row in rows}) > 1:
        plot_known(rows, folder / "ttft_by_known.png")


def _redis(args: argparse.Namespace) -> AbstractContextManager[str | None]:
    """The URL of a server, where a case wants one."""
    wanted = "redis" in (args.tier, *(args.points or ()))
    return redis_server(args.redis) if wanted else nullcontext()


def _backend(args: argparse.Namespace, server: str | None) -> "Backend":
    module, _, name = BACKEND.partition(":")
    make = getattr(import_module(module), name)
    backend: Backend = make(args.model, args.store, redis=server, sharing=args.share_blends)
    return backend


def _texts(args: argparse.Namespace) -> "Texts":
    """Of the data file, else the project's own."""
    from bench.fidelity.questions import read_questions
    from bench.ttft.prompts import Texts, built_in_texts

    if args.data is None:
        return built_in_texts()
    data = read_questions(args.data, num=MAX_QUESTIONS, passages=1, seed=args.seed)
    passages = dict.fromkeys(text for question in data.questions for text in question.passages)
    return Texts(data.name, tuple(passages), tuple(question.question for question in data.questions))


def _measure(args: argparse.Namespace, backend: "Backend", maker: "PromptMaker", base: Case) -> "Outcome":
    """Every case; then one blend more under a profiler, where that is asked for."""
    from bench.ttft.run import Plan, profile
    from bench.ttft.run import run as measure
    from bench.ttft.script import ANSWER_TOKENS, Script, ratios_of

    # Room for a second turn, which only a conversation needs.
    asked = 2 * (maker.fixed_tokens + args.question_tokens) + ANSWER_TOKENS
    cases = cases_of(args.sweep, base, args.points, backend.max_tokens - asked)
    plan = Plan(args.sweep, tuple(cases), args.repeat, args.stream)
    script = Script(maker, args.ratios or ratios_of(args.sweep), args.pool, args.seed)
    outcome = measure(backend, maker, script, plan, tell)
    if args.profile is not None:
        profile(backend, maker, script, cases[-1], args.profile)
    return outcome
