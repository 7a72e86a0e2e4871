# syntax=docker/dockerfile:1
# The image of a pod: one static binary and the CA roots, from scratch, under 25 MB. Its bill of materials is in
# /usr/share/sbom (CycloneDX), and the list of crates in the binary itself.
#
#   docker build -t gcr.io/PROJECT_ID/roadtrip-api:v1.0.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 --sbom=true --provenance=mode=max -t ... --push .
#
# Reproducible: the compiler's version is pinned, dependencies are locked, paths of the build are taken out, and with
# `--build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)` BuildKit sets every time in the image to it. Pin the two base
# images by digest in a registry of your own (`docker buildx imagetools inspect`) for the last bit of it.
#
# arm64 is built under emulation by buildx, in some forty minutes, or at full speed on an arm64 builder
# (`docker buildx create --append`): nothing here names an architecture.

FROM rust:1.95-bookworm AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /build

COPY deploy/image/build deploy/image/
RUN deploy/image/build tools

# A layer of dependencies alone, which stays while the lock file does: their manifests, and sources that are empty.
COPY Cargo.toml Cargo.lock ./
COPY bench/Cargo.toml bench/
COPY tuning/Cargo.toml tuning/
RUN deploy/image/build dependencies

COPY . .
RUN deploy/image/build binary \
    && deploy/image/build tree /tree

# The load generator of the runbooks: docker build --target bench.
FROM build AS bench-build
RUN deploy/image/build bench /roadtrip-bench
FROM scratch AS bench
COPY --from=bench-build /roadtrip-bench /roadtrip-bench
USER 65532:65532
ENTRYPOINT ["/roadtrip-bench"]

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="roadtrip-api" \
      org.opencontainers.image.description="The AI Road Trip Storyteller API: thread per core, io_uring" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-4.0" \
      org.opencontainers.image.base.name="scratch"
COPY --from=build /tree /
ENV PATH=/bin \
    PORT=8080 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# `nonroot` of /etc/passwd, by number so that runAsNonRoot can be checked.
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/roadtrip-api", "healthcheck"]
ENTRYPOINT ["/roadtrip-api"]
CMD ["serve"]
