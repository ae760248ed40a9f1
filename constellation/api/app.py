"""The application: every handler, what they share, and what stands around them."""

from litestar import Litestar, get
from litestar.di import NamedDependency, Provide
from litestar.types import ASGIApp

from constellation.api import access, codebooks, content, devices, dictionaries, health, openapi, shards, sync, trending
from constellation.api.edge import Edge
from constellation.api.metrics import CONTENT_TYPE
from constellation.api.operations import described
from constellation.api.page import files as page_files
from constellation.api.page import stream
from constellation.api.problems import exception_handlers
from constellation.api.replies import Reply
from constellation.api.service import Service
from constellation.api.shortcut import Shortcut
from constellation.identity import Allowed

HANDLERS = (
    sync.sync,
    sync.sync_version,
    trending.trending,
    content.post_content,
    content.get_content,
    devices.forget_device,
    codebooks.codebook,
    codebooks.sample,
    dictionaries.dictionary,
    shards.stats,
    shards.shards,
    shards.info,
    stream.live,
    page_files.page,
    page_files.page_file,
    health.live,
    health.ready,
    health.detailed,
    openapi.document,
    openapi.viewer,
)


@get(
    "/metrics",
    opt=described(
        tag="health",
        summary="Measurements for Prometheus",
        reply="text/plain",
        reply_text="Text format of Prometheus.",
        headers=(),
    ),
)
async def metrics(service: NamedDependency[Service]) -> Reply:
    return Reply(service.metrics.text(), CONTENT_TYPE)


def create_app(service: Service) -> Edge:
    """The application of the API port."""
    return _around(Shortcut(_create(service, *HANDLERS, metrics), service), service)


def create_metrics_app(service: Service) -> Edge:
    """The application of the metrics port: one page, readiness for who has no certificate, and the same errors."""
    return _around(_create(service, metrics, health.live, health.ready), service)


def _around(app: ASGIApp, service: Service) -> Edge:
    return Edge(access.Gate(app, service), service)


def _create(service: Service, *handlers: object) -> Litestar:
    allowed: dict[tuple[str, str], Allowed] = {}
    app = Litestar(
        route_handlers=handlers,  # type: ignore[arg-type]
        dependencies={"service": Provide(lambda: service, sync_to_thread=False)},
        exception_handlers=exception_handlers(service),
        before_request=access.authorizer(allowed),
        # Ours: the document is built of what the handlers say, a body is bounded where it is read.
        openapi_config=None,
        request_max_body_size=None,
        logging_config=None,
    )
    allowed |= access.permissions(app.routes)
    app.state["document"] = openapi.build(app, service.identity.required)
    return app
