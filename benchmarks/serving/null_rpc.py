"""A gRPC server that answers without looking at what it was asked: the baseline of gRPC. Prints its port."""

import sys
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import uvloop

from benchmarks.serving.requests import node_name
from extender.server.scoring_pb2 import RankedNode, ScoreRequest, ScoreResponse

ANSWER = ScoreResponse(
    nodes=[RankedNode(name=node_name(number), score=-float(number), priority=10 - number) for number in range(10)],
    rung="policy",
    policy_digest="0" * 64,
)


async def score(request: ScoreRequest, context: grpc.aio.ServicerContext) -> ScoreResponse:
    """Answer one request."""
    return ANSWER


async def score_stream(
    requests: AsyncIterator[ScoreRequest], context: grpc.aio.ServicerContext
) -> AsyncIterator[ScoreResponse]:
    """Answer each request of a stream."""
    async for _ in requests:
        yield ANSWER


async def main() -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    coders = {
        "request_deserializer": ScoreRequest.FromString,
        "response_serializer": ScoreResponse.SerializeToString,
    }
    methods = {
        "Score": grpc.unary_unary_rpc_method_handler(score, **coders),
        "ScoreStream": grpc.stream_stream_rpc_method_handler(score_stream, **coders),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("stowage.v1.Scoring", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
