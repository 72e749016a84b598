# The extender's image: Python, the packages that it needs, and itself. No compiler, no PyTorch, nothing of training.
#
#   docker build --tag stowage:0.1.0 .
#
# The same inputs give the same layers: versions come from constraints.txt, times are set to that of the epoch, and
# compiled files name their source by its content. (The builder sets the times of the layers themselves: `docker
# buildx build --build-arg SOURCE_DATE_EPOCH=0 --output type=docker,rewrite-timestamp=true`, `buildah build --timestamp 0`.)
ARG BASE_IMAGE=docker.io/library/python:3.13-slim

FROM ${BASE_IMAGE} AS build
# Sets are written into compiled files in the order of their hashes.
ENV PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY pyproject.toml constraints.txt ./
RUN python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        print(*project['dependencies'], *project['optional-dependencies']['tracing'], sep='\n')" > requirements.txt \
    && python3 -m venv /opt/stowage \
    && /opt/stowage/bin/python -m pip install --quiet --no-compile --constraint constraints.txt --requirement requirements.txt
# What is in the image, in CycloneDX; that of the base image's packages is in its own package database.
RUN python3 -m venv /build/sbom \
    && /build/sbom/bin/python -m pip install --quiet --constraint constraints.txt cyclonedx-bom \
    && /opt/stowage/bin/python -m pip uninstall --quiet --yes pip setuptools \
    && mkdir -p /opt/stowage/share \
    && /build/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
        --output-file /opt/stowage/share/sbom.cdx.json /opt/stowage/bin/python
COPY extender extender
# A third of what was installed is never loaded: the kubernetes package's second client and what only that needs,
# conversion of models, tests, sources of what is compiled. Of its first client, 20 MB of generated code, only the
# compiled form stays.
RUN packages=$(/opt/stowage/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") \
    && cp -r extender "$packages/" \
    && cd "$packages" \
    && rm -rf kubernetes/aio aiohttp watchfiles websockets \
        onnxruntime/transformers onnxruntime/tools onnxruntime/quantization numpy/f2py \
    && find . -type d -name tests -prune -exec rm -rf {} + \
    && find . -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.c' -o -name '*.h' -o -name '*.a' \) -delete \
    && python3 -m compileall -q -b --invalidation-mode unchecked-hash kubernetes/client/api kubernetes/client/models \
    && find kubernetes/client/api kubernetes/client/models -name '*.py' -delete \
    && python3 -m compileall -q --invalidation-mode unchecked-hash . \
    && find /opt/stowage -exec touch --no-dereference --date=@0 {} +

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="stowage" \
    org.opencontainers.image.description="Scores nodes for kube-scheduler with a policy trained in simulation" \
    org.opencontainers.image.licenses="Apache-2.0"
# The chart's certificate is renewed by it.
RUN openssl version
COPY --from=build /opt/stowage /opt/stowage
ENV PATH=/opt/stowage/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# By number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 8888 8889
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "extender.probe", "http://127.0.0.1:8888/healthz"]
ENTRYPOINT ["python", "-m", "extender"]
CMD ["serve", "--help"]
