"""The application: every handler, what they share, and what stands around them."""

from litestar import Litestar, get
from litestar.di import NamedDependency, Provide

from constellation.api import codebooks, content, devices, dictionaries, health, openapi, shards, sync, trending
from constellation.api.edge import Edge
from constellation.api.metrics import CONTENT_TYPE
from constellation.api.operations import described
from constellation.api.problems import exception_handlers
from constellation.api.replies import Reply
from constellation.api.service import Service

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
    return _create(service, *HANDLERS, metrics)


def create_metrics_app(service: Service) -> Edge:
    """The application of the metrics port: one page, and the same errors."""
    return _create(service, metrics)


def _create(service: Service, *handlers: object) -> Edge:
    app = Litestar(
        route_handlers=handlers,  # type: ignore[arg-type]
        dependencies={"service": Provide(lambda: service, sync_to_thread=False)},
        exception_handlers=exception_handlers(service),
        # Ours: the document is built of what the handlers say, a body is bounded where it is read.
        openapi_config=None,
        request_max_body_size=None,
        logging_config=None,
    )
    app.state["document"] = openapi.build(app)
    return Edge(app, service)
