# One shard. Build: docker build -t constellation .   Run, with the public keys of `constellation token keys` in ./keys:
# docker run -v constellation:/home/constellation/data -v ./keys:/keys:ro -e CONSTELLATION_TOKEN_KEYS=/keys/token-keys.jwks -p 8080:8080 -p 9090:9090 constellation
FROM python:3.11-slim AS build
WORKDIR /source
RUN python -m venv /opt/constellation
COPY pyproject.toml constraints.txt README.md ./
COPY constellation constellation
COPY kernels kernels
COPY bench bench
RUN /opt/constellation/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.11-slim
# A home of its own: the kernels are compiled for the machine's CPU at the first start and cached there.
RUN useradd --system --create-home --uid 10001 constellation
COPY --from=build /opt/constellation /opt/constellation
USER constellation
WORKDIR /home/constellation
# Journal and embedded database; with CONSTELLATION_DATABASE_URL the journal alone.
RUN mkdir data
VOLUME /home/constellation/data
ENV CONSTELLATION_HOST=0.0.0.0 CONSTELLATION_SHARING=aggregates CONSTELLATION_DATA_DIR=/home/constellation/data
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=120s --interval=10s --timeout=3s \
    CMD ["/opt/constellation/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health/ready', timeout=2)"]
ENTRYPOINT ["/opt/constellation/bin/constellation"]
CMD ["serve"]
