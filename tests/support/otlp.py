"""A receiver of traces: OTLP over gRPC, on a port of its own."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver(service.TraceServiceServicer):
    """Keeps every span that comes."""

    def __init__(self) -> None:
        self.url = ""
        self._spans: list[Span] = []

    def Export(self, request, context):  # noqa: N802 - the protocol's name
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self._spans.extend(scope.spans)
        return messages.ExportTraceServiceResponse()

    def trace(self, trace_id: str, whole: set[str], within_s: float) -> dict[str, Span]:
        """Spans of a trace by their names, as soon as these are among them.

        Args:
            trace_id: 32 hexadecimal digits.
        """
        deadline = time.monotonic() + within_s
        while True:
            spans = {span.name: span for span in self._spans if span.trace_id.hex() == trace_id}
            if whole <= set(spans):
                return spans
            assert time.monotonic() < deadline, f"got {sorted(spans)}, expected {sorted(whole)}"
            time.sleep(0.1)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens while the block runs."""
    receiver = Receiver()
    server = grpc.server(ThreadPoolExecutor(2))
    service.add_TraceServiceServicer_to_server(receiver, server)
    receiver.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(grace=None).wait()
