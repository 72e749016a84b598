"""Every setting of the extender, its default and its meaning; nothing else in the package has defaults.

A value comes from a flag, else from the environment (STOWAGE_HTTP_PORT=8888), else from the file named by --config or
STOWAGE_CONFIG (YAML, names as below). `__main__` builds its flags and its help from these fields.
"""

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from extender.profile import ScoringProfile

Port = Annotated[int, Field(ge=0, le=65535)]
HEURISTIC_PREFIX = "heuristic:"


class Settings(BaseSettings):
    """What `stowage-extender serve` can be told."""

    model_config = SettingsConfigDict(env_prefix="STOWAGE_", extra="forbid", frozen=True)

    policy: str = Field(
        description="policy file (ONNX, written by training), bundled:NAME for one that comes with Stowage "
        "(bundled:latency, bundled:packing), or heuristic:NAME for a hand-written rule, e.g. heuristic:best-fit"
    )
    fallback: str = Field(
        default="least-allocated",
        description="heuristic that answers when the policy fails; fgd takes the typical pods of the policy file",
    )
    typical_pods: Literal["recent", "policy"] = Field(
        default="recent",
        description="what the policy takes for the workload's typical pods: recent (estimated from the pods of the "
        "cluster that were created last, as soon as there are 200) or policy (those of the workload that the file was "
        "trained on)",
    )
    scoring: Annotated[ScoringProfile, NoDecode] = Field(
        default_factory=ScoringProfile,
        description="how kube-scheduler's own scorings are configured where they serve as a rule, in JSON: "
        '{"resources": [{"name": "cpu", "weight": 1}, …], "shape": [{"utilization": 0, "score": 0}, …], '
        '"balanced_resources": ["cpu", …], "fit_weight": 1, "balanced_weight": 1}; what is left out is as '
        "kube-scheduler has it",
    )
    kubeconfig: Path | None = Field(
        default=None,
        description="kubeconfig file; with neither this nor --cluster-file the service account of the pod",
    )
    cluster_file: Path | None = Field(
        default=None,
        description="take nodes and pods from this file (kubectl get nodes,pods -A -o json) instead of an API server",
    )
    host: str = Field(
        default="127.0.0.1",
        description="address to listen on; loopback unless told otherwise, :: for every address, IPv4's too",
    )
    http_port: Port = Field(default=8888, description="port of the extender's HTTP server; 0 takes a free one")
    grpc_port: Port = Field(default=8889, description="port of the gRPC server; 0 takes a free one")
    assume_ttl: float = Field(
        default=30.0,
        gt=0,
        description="seconds that a pod counts on the node ranked first without the watch confirming it",
    )
    mode: Literal["active", "shadow", "canary"] = Field(
        default="active",
        description="active: kube-scheduler is told the answers; shadow: its questions are answered without opinion, "
        "what would have been said is recorded and compared with where pods go; canary: active for canary_percent of "
        "the pods, chosen by uid, shadow for the others",
    )
    canary_percent: float = Field(default=10.0, ge=0, le=100, description="percent of the pods, in mode canary")
    candidate: Path | None = Field(
        default=None,
        description="file that names a policy to be tried beside the one in service, and for how many pods it answers: "
        '{"policy": "candidate.onnx", "percent": 5}; with percent 0 it only looks on. It need not be there, and may '
        "come, change and go at any time",
    )
    policy_poll: float = Field(
        default=2.0,
        gt=0,
        description="seconds between looks at the policy file, where another one takes over, and at candidate "
        "and outcome_file",
    )
    outcome_file: Path | None = Field(
        default=None,
        description="file with the verdict on the policy, as `python -m training.monitor` writes it; it is shown at "
        "/metrics and GET /policy. What was stepped down from is kept beside it, as FILE.stepped-down",
    )
    step_down_after: float = Field(
        default=0.0,
        ge=0,
        description="when the verdicts in outcome_file have said for so many seconds, without a break, that the policy "
        "does worse than the fallback, the fallback answers alone until another policy comes or POST /resume; 0: never",
    )
    deadline: float = Field(
        default=0.05,
        gt=0,
        description="seconds from a complete request to its answer; what the policy has not scored after four fifths "
        "of it is ranked by the fallback, and without opinion when that is too late as well",
    )
    breaker_failures: int = Field(
        default=3, ge=1, description="failures of the policy in a row after which it is not asked for a while"
    )
    breaker_pause: float = Field(
        default=10.0, gt=0, description="seconds until a policy that failed too often is tried again"
    )
    staleness_limit: float = Field(
        default=180.0,
        gt=0,
        description="seconds without a word from the API server after which answers carry no opinion; it sends a "
        "bookmark a minute",
    )
    scheduler_name: str = Field(
        default="stowage",
        description="schedulerName of the pods that we are asked about; only these reserve nodes, and are in the "
        "decision log where kube-scheduler had no choice and did not ask",
    )
    reserve_after: float = Field(
        default=0.0,
        ge=0,
        description="a pod of several whole GPUs that has waited so many seconds reserves the node that is believed to "
        "be free for it soonest, and filter keeps off others that would not end before; 0 switches that off",
    )
    reserve_gpus: int = Field(default=2, ge=1, description="pods reserve nodes only if they want so many whole GPUs")
    reservation_ttl: float = Field(
        default=3600.0, gt=0, description="seconds after which a reservation lapses that has not been used"
    )
    reservation_file: Path | None = Field(
        default=None,
        description="file that keeps reservations over a restart; without it they are granted anew",
    )
    reservation_events: bool = Field(
        default=False,
        description="tell of reservations by events on the pods; needs the right to create events",
    )
    preempt: Literal["pass-through", "fewest"] = Field(
        default="pass-through",
        description="what preempt answers: pass-through (all nodes offered that can be used) or fewest (the one whose "
        "victims have the lowest priority, are fewest, and have done least work)",
    )
    tls_certificate: Path | None = Field(
        default=None, description="certificate (PEM, with its chain) for HTTPS and gRPC; replaced files are taken over"
    )
    tls_key: Path | None = Field(default=None, description="private key (PEM) of the certificate")
    tls_client_ca: Path | None = Field(
        default=None, description="CA (PEM) of the clients: who has no certificate of it is not served"
    )
    max_header_bytes: int = Field(
        default=16 * 1024, ge=256, description="largest request line and headers; larger ones are answered with 431"
    )
    client_timeout: float = Field(
        default=10.0,
        gt=0,
        description="seconds that a client has to send a whole request, and to read the answer, before it is cut off",
    )
    max_connections: int = Field(
        default=512, ge=1, description="connections of HTTP clients at a time; requests on further ones get 503"
    )
    max_body_bytes: int = Field(
        default=16 * 1024 * 1024, ge=1024, description="largest request body; a larger one is answered with 413"
    )
    decision_log: Path | None = Field(
        default=None, description="append one JSON line per prioritize answer to this file; none is written by default"
    )
    decision_log_flush: float = Field(
        default=1.0, gt=0, description="seconds after which a decision is written at the latest"
    )
    decision_log_file_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1024, description="size at which the log's file is renamed to NAME.1"
    )
    decision_log_files: int = Field(
        default=8, ge=0, description="renamed files that are kept; the oldest is deleted when there are more"
    )
    decision_log_fsync: bool = Field(
        default=False,
        description="wait for the disk at every flush: a power failure then loses no more than a kill -9, the last "
        "flush interval",
    )
    list_page_size: int = Field(
        default=500,
        ge=1,
        description="objects per page when nodes and pods are listed anew; four times as many when first listed",
    )
    watch_read_timeout: float = Field(
        default=150.0,
        gt=0,
        description="seconds of silence after which a watch is begun anew; the API server sends a bookmark a minute",
    )
    shutdown_grace: float = Field(
        default=5.0, ge=0, description="seconds that requests in flight have to finish after SIGTERM"
    )
    trace_collector: str | None = Field(
        default=None,
        pattern=r"^https?://[^/]+",
        description="OpenTelemetry collector that is sent a span per request, over OTLP/HTTP, such as "
        "http://127.0.0.1:4318; none by default; needs the extra `tracing`",
    )
    trace_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="share of the requests that are traced, of those whose callers do not say whether to",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="log lines for people, or a JSON object each; both name pod and trace"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severity that is logged to stderr"
    )

    @field_validator("scoring", mode="before")
    @classmethod
    def _read_json(cls, given: Any) -> Any:
        return json.loads(given) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _whole_tls(self) -> "Settings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together: give both or neither")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key: clients are only asked over TLS")
        return self

    @model_validator(mode="after")
    def _verdicts_to_step_down_by(self) -> "Settings":
        if self.step_down_after > 0 and self.outcome_file is None:
            raise ValueError("step_down_after needs outcome_file: without verdicts nothing is known to be worse")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> "Settings":
        if self.kubeconfig is not None and self.cluster_file is not None:
            raise ValueError("kubeconfig and cluster_file exclude each other: give one")
        if self.reservation_events and self.cluster_file is not None:
            raise ValueError("reservation_events needs an API server, which cluster_file does without: give one")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file; no .env of whatever folder we were started in."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=cls._file_values)

    _file_values: ClassVar[dict[str, Any]] = {}


class SettingsFileError(Exception):
    """The settings file cannot be used; the message says why."""


def load(flags: dict[str, Any], config_file: Path | None) -> Settings:
    """Put the settings together.

    Args:
        flags: values given on the command line, by field.
        config_file: YAML file with further values.

    Raises:
        SettingsFileError: the file cannot be read, or holds no mapping.
        pydantic.ValidationError: a value is missing, unknown or out of range.
    """
    values: Any = {}
    if config_file is not None:
        try:
            values = yaml.safe_load(config_file.read_bytes()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise SettingsFileError(f"settings file {config_file} cannot be read: {error}") from error
        if not isinstance(values, dict):
            raise SettingsFileError(f"settings file {config_file} is a {type(values).__name__}: expected name: value")

    class FromFile(Settings):
        _file_values = values

    return FromFile(**flags)
