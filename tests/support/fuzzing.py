"""A server held to its own OpenAPI document by schemathesis, within a number of cases and a time.

Against a running server: `OPENAI_API_KEY=... python -m tests.support.fuzzing URL --cases 2000`.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import INTERNAL_SERVER_ERROR
from itertools import count
from typing import Any
from unittest import SkipTest

import httpx
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import status_code_conformance

from api.server.surface.keys import own_key

# Nothing that stops or scales the server is asked for.
NOT_ASKED = ("/scale_elastic_ep", "/pause", "/resume", "/sleep", "/wake_up", "/abort_requests")
FEW_TOKENS = 2
LENGTHS = {
    "/v1/chat/completions": "max_tokens",
    "/v1/chat/completions/batch": "max_tokens",
    "/v1/completions": "max_tokens",
    "/v1/messages": "max_tokens",
    "/v1/responses": "max_output_tokens",
}
"""What keeps an answer short: an engine that writes for minutes finds no errors."""


@dataclass(frozen=True)
class Outcome:
    """How a run went."""

    cases: int
    statuses: Mapping[int, int]
    failures: tuple[str, ...]


def fuzz(url: str, headers: Mapping[str, str], *, max_cases: int, seconds: float) -> Outcome:
    """Send generated requests to every operation of a server's document: as many valid ones as invalid ones.

    A failure is an answer of status 500, or with a status that the document does not have.
    """
    document = httpx.get(f"{url}/openapi.json", headers=dict(headers), timeout=60).raise_for_status().json()
    operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
    asked = [one for one in operations if not one.path.startswith(NOT_ASKED)]
    deadline = time.monotonic() + seconds
    failures: list[str] = []
    statuses: dict[int, int] = {}
    with requests.Session() as session:
        session.headers.update(headers)
        for turn in count():
            missing = max_cases - sum(statuses.values())
            if missing <= 0 or time.monotonic() > deadline:
                break
            share = -(-missing // (2 * len(asked)))  # a route that takes nothing has few cases: turn by turn
            for number, operation in enumerate(asked, start=1):
                now = time.monotonic()
                until = now + (deadline - now) / (len(asked) - number + 1)
                for mode in GenerationMode:
                    _fuzz_one(operation, mode, turn, share, until, url, session, statuses, failures)
    return Outcome(sum(statuses.values()), statuses, tuple(failures))


def _fuzz_one(
    operation: Any,
    mode: GenerationMode,
    turn: int,
    share: int,
    deadline: float,
    url: str,
    session: requests.Session,
    statuses: dict[int, int],
    failures: list[str],
) -> None:
    @seed(turn)
    @settings(
        max_examples=share,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if time.monotonic() > deadline:
            return
        _keep_short(case)
        try:
            answer = case.call(base_url=url, session=session, timeout=60)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            if answer.status_code == INTERNAL_SERVER_ERROR:  # not 501: the model lacks it
                failures.append(f"status 500\n{case.as_curl_command()}"[:1500])
            case.validate_response(answer, checks=[status_code_conformance])
        except FailureGroup as group:
            failures.append("\n".join(map(str, group.exceptions)) + f"\n{case.as_curl_command()}"[:1500])
        except requests.RequestException as error:
            failures.append(f"{error}\n{case.as_curl_command()}"[:1500])

    try:
        ask()
    except (SkipTest, Unsatisfiable):
        return  # there is no wrong way to ask for what takes nothing
    except schemathesis.errors.InvalidSchema as error:
        failures.append(f"{operation.label}: {error}")


def _keep_short(case: Any) -> None:
    field = LENGTHS.get(case.path)
    if field is None or not isinstance(case.body, dict):
        return
    said = case.body.get(field)
    if said is None or (isinstance(said, int) and said > FEW_TOKENS):
        case.body[field] = FEW_TOKENS


def main() -> int:
    """Fuzz the server that the command line names; print what failed, and the statuses that came."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=3600)
    args = parser.parse_args()
    headers = {"Authorization": f"Bearer {own_key()}"}
    outcome = fuzz(args.url, headers, max_cases=args.cases, seconds=args.seconds)
    print(*outcome.failures, sep="\n\n")
    print({"cases": outcome.cases, "failures": len(outcome.failures), "statuses": outcome.statuses})
    return bool(outcome.failures)


if __name__ == "__main__":
    raise SystemExit(main())
