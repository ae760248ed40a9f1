# A shard, or with `worker` as command the federation's worker. Build: docker build -t constellation .
# How to run it: deploy/README.md. To pin the base by what it is instead of its name: --build-arg PYTHON=python@sha256:...
ARG PYTHON=python:3.11.14-slim-bookworm
ARG TARGETARCH=amd64

FROM ${PYTHON} AS build
WORKDIR /source
RUN python -m venv /opt/constellation
COPY pyproject.toml constraints.txt README.md ./
COPY constellation constellation
COPY kernels kernels
COPY bench bench
RUN /opt/constellation/bin/pip install --no-cache-dir --constraint constraints.txt '.[quic]'

FROM ${PYTHON} AS runtime
# The uid is stated, so that a cluster can see that it is not root, and a volume can be given to it.
RUN useradd --system --create-home --uid 10001 constellation && install --directory --owner=10001 /home/constellation/data
COPY --from=build /opt/constellation /opt/constellation

# numba keeps compiled kernels under the name of the processor. Here that is one that every server since 2013 can stand
# in for (AVX2), so they are compiled once, with the image, and a start takes seconds.
FROM runtime AS runtime-amd64
ENV NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES="" NUMBA_CACHE_DIR=/opt/constellation/kernels
RUN mkdir "$NUMBA_CACHE_DIR" \
    && /opt/constellation/bin/python -c "from constellation.api.rehearsal import rehearse; from constellation.config import Settings; from kernels.warm import warm; warm(); rehearse(Settings())" \
    && chown -R 10001 "$NUMBA_CACHE_DIR"

# Elsewhere they are compiled at the first start, for the processor that is there, and kept with the data.
FROM runtime AS runtime-arm64
ENV NUMBA_CACHE_DIR=/home/constellation/data/kernels

# The one of the machine that it is built for; a stage of this file has no tag.
# hadolint ignore=DL3006
FROM runtime-${TARGETARCH}
USER 10001
WORKDIR /home/constellation
# Journal, snapshot and embedded database; with CONSTELLATION_DATABASE_URL without the last.
VOLUME /home/constellation/data
ENV CONSTELLATION_HOST=0.0.0.0 CONSTELLATION_SHARING=aggregates CONSTELLATION_DATA_DIR=/home/constellation/data
EXPOSE 8080 9090 50051
STOPSIGNAL SIGTERM
# By the same environment: where TLS is on, it is asked by TLS.
HEALTHCHECK --start-period=300s --interval=10s --timeout=3s \
    CMD ["/opt/constellation/bin/constellation", "health"]
ENTRYPOINT ["/opt/constellation/bin/constellation"]
CMD ["serve"]
