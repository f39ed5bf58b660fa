# syntax=docker/dockerfile:1
# The image of all programs, static, for linux/amd64 and linux/arm64: each is built on the machine that it is for, by emulation or not.
#
#     docker buildx build --platform linux/amd64,linux/arm64 --tag headwater.dev/headwater:0.1.0 .
#     docker buildx build --target orders --tag headwater.dev/orders:0.1.0 .
#
# `cargo xtask image` makes the same of amd64 without a container engine; the tests run that one, and never this.
FROM rust:1.95-bookworm AS build
ARG TARGETARCH
WORKDIR /source
COPY . .
# The target is named so that what runs while it is built, as procedural macros do, is not static.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target,id=headwater-$TARGETARCH \
    case "$TARGETARCH" in \
      amd64) target=x86_64-unknown-linux-gnu ;; \
      arm64) target=aarch64-unknown-linux-gnu ;; \
      *) echo "there is no image for $TARGETARCH" >&2; exit 1 ;; \
    esac \
    && export RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_STRIP=symbols \
    && cargo build --release --locked --bins --target "$target" \
      --package headwater-cli --package headwater-operator --package headwater-server --package orders \
      --features headwater-server/kafka-tls \
    && mkdir /programs \
    && cd "target/$target/release" \
    && cp headwater headwater-eventstore headwater-operator headwater-query-worker headwater-saga orders /programs

FROM scratch AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# A number, so that nodes see that it is not root.
USER 65532:65532

# The services of the example Orders.
FROM base AS orders
COPY --from=build /programs/orders /orders
ENTRYPOINT ["/orders"]

FROM base
LABEL org.opencontainers.image.title="Headwater" \
      org.opencontainers.image.description="Event sourcing and CQRS for Kubernetes: the operator, its workers and the command" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build \
  /programs/headwater /programs/headwater-eventstore /programs/headwater-operator /programs/headwater-query-worker /programs/headwater-saga /
ENTRYPOINT ["/headwater"]
