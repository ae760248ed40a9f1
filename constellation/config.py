"""Settings of one process: what the operator may choose, checked before anything starts.

A value comes from the option, else the environment (`CONSTELLATION_` + the option in upper case), else the TOML file
of `--config`, else the default here. A wrong one raises `WrongSetting`, which names it, what came and what is allowed.
Called by `cli`; every other package gets a finished `Settings`.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from msgspec import inspect as introspect

from constellation import limits

ENVIRONMENT_PREFIX = "CONSTELLATION_"
EMBEDDED = "embedded"
"""In place of a database's URL: a PostgreSQL of our own in the data directory."""
PACKAGED = "packaged"
"""In place of a codebook's file: the one that ships."""


NONE = "none"
"""In place of a coordinator database: the shard is alone."""
AUTO = "auto"
"""In place of what follows from other settings."""
RANDOM = "random"
"""In place of a key's file: one that this process draws."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


_REGIONS = r"^[!-~]{1,64}$"
_SHARE = r"^[0-9]{1,4}/[1-9][0-9]{0,3}$"
_COLLECTOR = r"^(none|https?://[!-~]{1,4000})$"
_PATTERNS = {
    _REGIONS: "1 to 64 ASCII characters without spaces",
    _SHARE: "i/n with i < n",
    _COLLECTOR: "none, or a URL that begins with http:// or https://",
}


_FILE: dict[str, Any] = {"min_length": 1, "max_length": 4_096}

CoordinatorUrl = Annotated[
    str, Meta(description="URL of the federation's PostgreSQL, or none", min_length=1, max_length=4_096)
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"], Meta(description="the least that is told on standard error")
]
LogKeyFile = Annotated[
    str,
    Meta(
        description="file with the key by which logs and traces hash device ids; random: of this process",
        min_length=1,
        max_length=4_096,
    ),
]
OtlpEndpoint = Annotated[
    str, Meta(description="collector (OTLP over HTTP) that gets traces, or none", pattern=_COLLECTOR)
]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All options of `constellation serve`; the annotation is the check, the description is the help text."""

    host: Annotated[str, Meta(description="address to listen on", min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(description="REST port", ge=0, le=65_535)] = 8080
    grpc_port: Annotated[int, Meta(description="gRPC port", ge=0, le=65_535)] = 50_051
    metrics_port: Annotated[int, Meta(description="second port that serves /metrics", ge=0, le=65_535)] = 9090
    quic_port: Annotated[
        Annotated[int, Meta(ge=0, le=65_535)] | Literal["none"],
        Meta(description="UDP port of HTTP/3, with --tls-cert, or none"),
    ] = "none"
    shard_id: Annotated[str, Meta(description="name of this shard", min_length=1, max_length=64)] = "shard-0"
    region: Annotated[
        str, Meta(description="region it serves; of several shards a,b: each a part", pattern=_REGIONS)
    ] = "local"
    shards: Annotated[
        int, Meta(description="shards to run, each a process; of two or more a federation", ge=1, le=64)
    ] = 1
    storage: Annotated[Literal["postgres", "memory"], Meta(description="where patterns are kept")] = "postgres"
    data_dir: Annotated[str, Meta(description="folder of the journal and the embedded database", min_length=1)] = (
        "constellation-data"
    )
    database_url: Annotated[
        str, Meta(description="URL of the PostgreSQL to use, or embedded", min_length=1, max_length=4_096)
    ] = EMBEDDED
    accept_loss: Annotated[bool, Meta(description="start though journal and database do not fit together")] = False
    journal_max_bytes: Annotated[
        int, Meta(description="journal at most; beyond, syncs are refused", ge=1 << 22, le=1 << 40)
    ] = 4 << 30
    snapshot_every_s: Annotated[
        int, Meta(description="seconds after which a snapshot is replaced; sooner if much has changed", ge=1, le=86_400)
    ] = 900
    max_devices: Annotated[int, Meta(description="devices at most", ge=1, le=1 << 28)] = 1_000_000
    max_patterns: Annotated[int, Meta(description="patterns at most", ge=1, le=1 << 27)] = 4_000_000
    max_patterns_per_device: Annotated[
        int, Meta(description="patterns of one device at most", ge=1, le=limits.PATTERNS_PER_DEVICE_MAX)
    ] = 32
    max_cursors: Annotated[
        int, Meta(description="devices at most that get what changed instead of the whole list", ge=1, le=1 << 28)
    ] = 100_000
    device_ttl_days: Annotated[
        int, Meta(description="days without a sync after which a device is forgotten", ge=1, le=3_650)
    ] = 90
    device_syncs_per_min: Annotated[
        int, Meta(description="syncs of one device a minute, in the long run", ge=1, le=1_000_000)
    ] = 120
    device_burst: Annotated[
        int, Meta(description="syncs of one device at once, after a quiet while", ge=1, le=1_000_000)
    ] = 2_000
    quality_threshold: Annotated[float, Meta(description="success rate to be stored", ge=0, le=1)] = 0.7
    serve_threshold: Annotated[float, Meta(description="success rate to be served to others", ge=0, le=1)] = 0.8
    sharing: Annotated[
        Literal["auto", "patterns", "aggregates"],
        Meta(description="what others get: patterns of devices too, or aggregates only; auto: patterns, on loopback"),
    ] = "auto"
    coordinator_url: CoordinatorUrl = NONE
    public_url: Annotated[
        str,
        Meta(description="address that TVs reach this shard by; auto: host and port", min_length=1, max_length=4_096),
    ] = AUTO
    public_grpc_port: Annotated[
        int,
        Meta(description="gRPC port that TVs reach this shard by, if a proxy has another; 0: same", ge=0, le=65_535),
    ] = 0
    share: Annotated[
        str,
        Meta(description="which part of the region's free slots a new shard takes, counted from 0", pattern=_SHARE),
    ] = "0/1"
    codebook: Annotated[
        str, Meta(description="file of the codebook, or packaged: the one that ships", min_length=1, max_length=4_096)
    ] = PACKAGED
    max_body_bytes: Annotated[int, Meta(description="largest body", ge=1_024, le=1 << 28)] = limits.BODY_BYTES_MAX
    max_compressed_bytes: Annotated[int, Meta(description="largest compressed body", ge=1_024, le=1 << 28)] = (
        limits.COMPRESSED_BODY_BYTES_MAX
    )
    max_connections: Annotated[
        int, Meta(description="open connections at most, if the system allows as many files", ge=1, le=1 << 20)
    ] = 8_192
    access_log: Annotated[bool, Meta(description="one line a request on standard output")] = False
    log_level: LogLevel = "info"
    log_key_file: LogKeyFile = RANDOM
    otlp_endpoint: OtlpEndpoint = NONE
    trace_sample: Annotated[
        float, Meta(description="share of requests to trace; a caller's traceparent comes first", ge=0, le=1)
    ] = 0.01
    token_keys: Annotated[
        str, Meta(description="file of the public keys of tokens, PEM or JWKS; none: no token is asked for", **_FILE)
    ] = NONE
    token_revocations: Annotated[
        str, Meta(description="file of revoked tokens and devices, a jti or sub a line or in JSON, or none", **_FILE)
    ] = NONE
    audience: Annotated[str, Meta(description="fleet that tokens must be for", min_length=1, max_length=256)] = (
        "constellation"
    )
    max_cached_tokens: Annotated[
        int, Meta(description="tokens at most that are not checked anew each time; 0.5 KB each", ge=1, le=1 << 28)
    ] = 100_000
    insecure: Annotated[bool, Meta(description="let others than this machine reach a shard that asks for no token")] = (
        False
    )
    tls_cert: Annotated[
        str, Meta(description="file of the certificate and its chain, PEM, or none: plain HTTP", **_FILE)
    ] = NONE
    tls_key: Annotated[str, Meta(description="file of its private key, PEM, or none", **_FILE)] = NONE
    tls_client_ca: Annotated[
        str, Meta(description="file of the authorities of clients' certificates (mutual TLS), PEM, or none", **_FILE)
    ] = NONE

    @property
    def shares(self) -> Literal["patterns", "aggregates"]:
        """`sharing`, where auto is decided: it is allowed on loopback only."""
        return "aggregates" if self.sharing == "aggregates" else "patterns"


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All options of `constellation worker`; the first is that of `constellation rounds`, too."""

    coordinator_url: CoordinatorUrl = NONE
    interval: Annotated[int, Meta(description="seconds from round to round", ge=1, le=7 * limits.DAY_S)] = 3_600
    deadline: Annotated[int, Meta(description="seconds that a round waits for shards", ge=1, le=limits.DAY_S)] = 300
    mean: Annotated[
        Literal["plain", "robust"], Meta(description="robust: a few lying devices hardly move a prototype or a trend")
    ] = "plain"
    epsilon: Annotated[
        float, Meta(description="privacy of one round of aggregates by noise; 0: without noise", ge=0, le=1_000)
    ] = 0.0
    delta: Annotated[float, Meta(description="delta of that one", ge=1e-18, le=0.01)] = 1e-10
    budget_epsilon: Annotated[float, Meta(description="epsilon of all rounds of a window", ge=0, le=10_000)] = 10.0
    budget_delta: Annotated[float, Meta(description="delta of those", ge=1e-18, le=0.01)] = 1e-7
    budget_days: Annotated[int, Meta(description="days of a window", ge=1, le=3_650)] = 30
    host: Annotated[str, Meta(description="address of the metrics port", min_length=1)] = "127.0.0.1"
    metrics_port: Annotated[int, Meta(description="port that serves /metrics", ge=0, le=65_535)] = 9091
    log_level: LogLevel = "info"
    log_key_file: LogKeyFile = RANDOM
    otlp_endpoint: OtlpEndpoint = NONE


class WrongSetting(Exception):
    """A setting that cannot be used: its name, where it came from, what came and what is allowed."""


class Option(msgspec.Struct, frozen=True):
    """One field of `Settings` as the command line and the environment know it."""

    field: str
    type: Any
    default: Any
    description: str
    allowed: str

    @property
    def flag(self) -> str:
        return "--" + self.field.replace("_", "-")

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.field.upper()


def options(kind: type[Settings | WorkerSettings] = Settings) -> tuple[Option, ...]:
    """Every option in the order of its field."""
    struct = introspect.type_info(kind)
    assert isinstance(struct, introspect.StructType)
    declared = {field.name: field.type for field in msgspec.structs.fields(kind)}
    return tuple(_option(field, declared[field.name]) for field in struct.fields)


def load(
    given: Mapping[str, object], environment: Mapping[str, str] = os.environ, config_file: Path | None = None
) -> Settings:
    """Settings out of the given options (by field name; text is converted), the environment and a TOML file.

    Raises `WrongSetting` for the first value that is not allowed, for an unknown key of the file, for a file that
    cannot be read and for settings that contradict each other.
    """
    settings = Settings(**_values(options(), given, environment, config_file))
    _check_relations(settings)
    return settings


def load_worker(
    given: Mapping[str, object], environment: Mapping[str, str] = os.environ, config_file: Path | None = None
) -> WorkerSettings:
    """As `load`; the file may be that of a shard. Raises `WrongSetting`, also where there is no URL."""
    settings = WorkerSettings(**_values(options(WorkerSettings), given, environment, config_file))
    if settings.coordinator_url == NONE:
        raise WrongSetting(
            "--coordinator-url: it is missing; give postgresql://USER@HOST/DATABASE of the database that the shards of"
            " the federation share, here, as CONSTELLATION_COORDINATOR_URL or in the file of --config"
        )
    return settings


def _values(
    wanted: tuple[Option, ...], given: Mapping[str, object], environment: Mapping[str, str], config_file: Path | None
) -> dict[str, Any]:
    filed = _read_file(config_file) if config_file is not None else {}
    values: dict[str, Any] = {}
    for option in wanted:
        if option.field in given:
            values[option.field] = _convert(option, given[option.field], option.flag, strict=False)
        elif option.variable in environment:
            values[option.field] = _convert(option, environment[option.variable], option.variable, strict=False)
        elif option.field in filed:
            values[option.field] = _convert(option, filed[option.field], f"{config_file}: {option.field}", strict=True)
    return values


def changed(settings: Settings, **values: Any) -> Settings:
    """The settings with other values. Raises `WrongSetting`."""
    for option in options():
        if option.field in values:
            _convert(option, values[option.field], option.flag, strict=True)
    other = msgspec.structs.replace(settings, **values)
    _check_relations(other)
    return other


def _read_file(path: Path) -> dict[str, Any]:
    try:
        filed = tomllib.loads(path.read_text())
    except OSError as error:
        raise WrongSetting(f"--config: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise WrongSetting(f"--config: {path} is not TOML: {error}") from error
    known = dict.fromkeys(option.field for option in (*options(), *options(WorkerSettings)))
    for key in filed:
        if key not in known:
            raise WrongSetting(f"{path}: unknown key {key!r}; allowed: {', '.join(known)}")
    return filed


def _convert(option: Option, value: object, source: str, *, strict: bool) -> Any:
    """The value as its type. Not strict is for text, which becomes a number or a boolean; a file's value has a type."""
    try:
        converted = msgspec.convert(value, option.type, strict=strict)
    except msgspec.ValidationError as error:
        raise WrongSetting(f"{source}: got {value!r}; allowed: {option.allowed}") from error
    if converted != converted:  # NaN passes every bound, because no comparison with it holds.
        raise WrongSetting(f"{source}: got {value!r}; allowed: {option.allowed}")
    return converted


def _option(field: introspect.Field, declared: Any) -> Option:
    kind = field.type
    description = ""
    if isinstance(kind, introspect.Metadata):
        description = (kind.extra_json_schema or {}).get("description", "")
        kind = kind.type
    return Option(field.name, declared, field.default, description, _allowed(kind))


def _allowed(kind: introspect.Type) -> str:
    """What a value may be, in words, from the constraints of its type."""
    match kind:
        case introspect.LiteralType(values=values):
            return " | ".join(str(value) for value in values)
        case introspect.UnionType(types=types):
            return " | ".join(_allowed(each) for each in types)
        case introspect.BoolType():
            return "true | false"
        case introspect.IntType(ge=low, le=high):
            return f"a whole number from {low} to {high}"
        case introspect.FloatType(ge=low, le=high):
            return f"a number from {low} to {high}"
        case introspect.StrType(pattern=str() as pattern):
            return _PATTERNS[pattern]
        case introspect.StrType(min_length=low, max_length=high):
            return f"text of {low} to {high} characters" if high else f"text of at least {low} character"
    raise AssertionError(f"no wording for settings of type {kind}")


def _check_relations(settings: Settings) -> None:
    _check_identity(settings)
    if settings.port == settings.grpc_port != 0:
        raise WrongSetting(f"--grpc-port: got {settings.grpc_port}; allowed: another port than --port")
    if settings.metrics_port in {settings.port, settings.grpc_port} - {0}:
        raise WrongSetting(
            f"--metrics-port: got {settings.metrics_port}; allowed: another port than --port and --grpc-port"
        )
    if settings.shards < len(settings.region.split(",")) or not all(settings.region.split(",")):
        raise WrongSetting(
            f"--region: got {settings.region}; allowed: at most one region for each of {settings.shards} shards, "
            "separated by commas"
        )
    if settings.sharing == AUTO and settings.host not in LOOPBACK:
        raise WrongSetting(
            f"--sharing: got auto with --host {settings.host}, which others reach; allowed: aggregates, which gives "
            "nobody the patterns of a household, or patterns"
        )
    if int(settings.share.partition("/")[0]) >= int(settings.share.partition("/")[2]):
        raise WrongSetting(f"--share: got {settings.share}; allowed: i/n with i < n")
    if settings.max_compressed_bytes > settings.max_body_bytes:
        raise WrongSetting(
            f"--max-compressed-bytes: got {settings.max_compressed_bytes}; "
            f"allowed: at most --max-body-bytes ({settings.max_body_bytes})"
        )
    if settings.serve_threshold < settings.quality_threshold:
        raise WrongSetting(
            f"--serve-threshold: got {settings.serve_threshold}; "
            f"allowed: at least --quality-threshold ({settings.quality_threshold})"
        )
    if settings.max_patterns < settings.max_patterns_per_device:
        raise WrongSetting(
            f"--max-patterns: got {settings.max_patterns}; "
            f"allowed: at least --max-patterns-per-device ({settings.max_patterns_per_device})"
        )


def _check_identity(settings: Settings) -> None:
    if settings.host not in LOOPBACK and settings.token_keys == NONE and not settings.insecure:
        raise WrongSetting(
            f"--host: got {settings.host}, which others reach, and no --token-keys; allowed: with --token-keys FILE "
            "(`constellation token keys` makes one), so that callers show who they are; or with --insecure"
        )
    if settings.token_revocations != NONE and settings.token_keys == NONE:
        raise WrongSetting(f"--token-revocations: got {settings.token_revocations}; allowed: with --token-keys")
    if (settings.tls_cert == NONE) != (settings.tls_key == NONE):
        raise WrongSetting(
            f"--tls-cert: got {settings.tls_cert} and --tls-key {settings.tls_key}; allowed: both files, or neither"
        )
    if settings.tls_client_ca != NONE and settings.tls_cert == NONE:
        raise WrongSetting(f"--tls-client-ca: got {settings.tls_client_ca}; allowed: with --tls-cert and --tls-key")
    if settings.quic_port != NONE and settings.tls_cert == NONE:
        raise WrongSetting(
            f"--quic-port: got {settings.quic_port} and no certificate, which HTTP/3 cannot do without; allowed: with "
            "--tls-cert and --tls-key"
        )
    if settings.quic_port != NONE and settings.tls_client_ca != NONE:
        raise WrongSetting(
            f"--quic-port: got {settings.quic_port} with --tls-client-ca; allowed: one of them, because HTTP/3 asks "
            "clients for no certificate here, and would let in whom mutual TLS keeps out"
        )
