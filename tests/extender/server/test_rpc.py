from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from extender.server.scoring_pb2 import PodIdentity, ScoreRequest, ScoreResponse
from tests.extender.objects import cluster_list, node
from tests.extender.server.process import ExtenderProcess, serve


@pytest.fixture(scope="module")
def extender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExtenderProcess]:
    cluster = cluster_list(node("small", cpu="4"), node("large", cpu="64"), node("gpu", gpus="1"))
    with serve(cluster, tmp_path_factory.mktemp("rpc")) as running:
        yield running


@pytest.fixture(scope="module")
def channel(extender: ExtenderProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(extender.grpc_address) as opened:
        yield opened


def score(channel: grpc.Channel, name: str, names: list[str], seconds: float = 0.0, **requests: str) -> ScoreResponse:
    call = channel.unary_unary(
        "/stowage.v1.Scoring/Score",
        request_serializer=ScoreRequest.SerializeToString,
        response_deserializer=ScoreResponse.FromString,
    )
    identity = PodIdentity(namespace="default", name=name, uid=f"uid-{name}" if name else "")
    request = ScoreRequest(pod=identity, requests=requests, node_names=names, expected_seconds=seconds)
    response: ScoreResponse = call(request, timeout=60.0)
    return response


def test_nodes_are_ranked_with_their_scores(channel: grpc.Channel) -> None:
    response = score(channel, "ranked", ["small", "large"], cpu="2")

    assert [(each.name, each.priority) for each in response.nodes] == [("large", 10), ("small", 9)]
    assert response.nodes[0].score > response.nodes[1].score
    assert response.rung == "policy"
    assert response.policy_digest == "heuristic:least-allocated"


def test_the_same_state_stands_behind_both_ways_in(channel: grpc.Channel, extender: ExtenderProcess) -> None:
    before = extender.ask("GET", "/state").json()["assumed"]

    assert score(channel, "first", ["gpu"], **{"nvidia.com/gpu": "1"}).nodes[0].name == "gpu"

    assert extender.ask("GET", "/state").json()["assumed"] == before + 1
    second = score(channel, "second", ["gpu"], **{"nvidia.com/gpu": "1"})
    assert (list(second.nodes), second.rung) == ([], "none_feasible")


def open_stream(channel: grpc.Channel, requests: list[ScoreRequest]) -> Iterator[ScoreResponse]:
    call = channel.stream_stream(
        "/stowage.v1.Scoring/ScoreStream",
        request_serializer=ScoreRequest.SerializeToString,
        response_deserializer=ScoreResponse.FromString,
    )
    responses: Iterator[ScoreResponse] = call(iter(requests), timeout=60.0)
    return responses


def test_a_stream_answers_pod_after_pod_and_ends_with_what_it_refuses(channel: grpc.Channel) -> None:
    asked = [
        ScoreRequest(pod=PodIdentity(name=f"s{number}"), requests={"cpu": "1"}, node_names=["small", "large"])
        for number in range(3)
    ]
    responses = open_stream(channel, [*asked, ScoreRequest()])

    assert [next(responses).nodes[0].name for _ in asked] == ["large"] * 3
    with pytest.raises(grpc.RpcError) as refused:
        next(responses)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("name", "names", "seconds", "requests", "code", "reason"),
    [
        ("p", ["small"], 0.0, {"cpu": "lots"}, grpc.StatusCode.INVALID_ARGUMENT, "cpu: 'lots' is not a quantity"),
        ("p", ["small"], 0.0, {"stowage.dev/gpu-milli": "1500"}, grpc.StatusCode.INVALID_ARGUMENT, "less than 1000"),
        ("", ["small"], 0.0, {}, grpc.StatusCode.INVALID_ARGUMENT, "neither name nor uid"),
        ("p", ["small"], float("nan"), {}, grpc.StatusCode.INVALID_ARGUMENT, "expected_seconds is nan"),
        ("p", ["new"], 0.0, {}, grpc.StatusCode.NOT_FOUND, "none of the 1 nodes"),
    ],
)
def test_what_cannot_be_answered_has_a_status_and_a_reason(
    channel: grpc.Channel,
    extender: ExtenderProcess,
    name: str,
    names: list[str],
    seconds: float,
    requests: dict[str, str],
    code: grpc.StatusCode,
    reason: str,
) -> None:
    before = extender.count("stowage_requests_total", verb="Score", code=code.name)
    with pytest.raises(grpc.RpcError) as caught:
        score(channel, name, names, seconds, **requests)

    assert caught.value.code() == code
    assert reason in caught.value.details()
    assert extender.count("stowage_requests_total", verb="Score", code=code.name) == before + 1
    assert score(channel, "after", ["small"], cpu="1").rung == "policy"


@pytest.mark.parametrize("service", ["", "stowage.v1.Scoring"])
def test_the_health_service_says_serving(channel: grpc.Channel, service: str) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=60.0)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_services_and_describes_scoring(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="stowage.v1.Scoring"),
    ]
    listed, described = list(stub.ServerReflectionInfo(iter(asked), timeout=60.0))

    services = {service.name for service in listed.list_services_response.service}
    assert services >= {"stowage.v1.Scoring", "grpc.health.v1.Health"}
    assert described.file_descriptor_response.file_descriptor_proto


def test_a_message_beyond_the_limit_is_refused(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        score(channel, "p", ["x" * 1000] * 20_000)

    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
