# An image with one static binary. This one compiles it; Dockerfile.prebuilt takes build/coffer, built outside.
FROM golang:1.26 AS compile
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /coffer ./cmd/coffer

FROM scratch
COPY --from=compile /coffer /coffer
# A volume takes over the owner of the directory that it is first mounted over.
COPY --chown=65532:65532 LICENSE /data/
COPY --chown=65532:65532 LICENSE /config/
USER 65532:65532
HEALTHCHECK --interval=2s --timeout=3s --start-period=30s CMD ["/coffer", "healthcheck"]
ENTRYPOINT ["/coffer"]
