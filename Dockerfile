# One skerry node. Everything it keeps lies in the volume /data.
#
#   docker build -t skerry .                                    CPU
#   docker build -t skerry:cuda --build-arg TORCH=cu126 .       CUDA, needs the NVIDIA runtime
#   docker run -d --name skerry -p 4001:4001 -v skerry:/data \
#     -e SKERRY_LISTEN__ANNOUNCE=/ip4/203.0.113.7/tcp/4001 skerry
#   docker exec skerry skerry join TOKEN
#
# The address to announce is the one at which others reach the machine: from inside, only the
# container's own is seen. A data folder named in the run file has to be mounted as well.
#
# TORCH names the index of torch's wheels: cpu, or cu126 and the like (pytorch.org/get-started).

ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG TORCH=cpu
RUN python -m venv /opt/skerry
ENV PATH=/opt/skerry/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# torch first, in a layer of its own: it is large and changes rarely.
RUN pip install --index-url "https://download.pytorch.org/whl/${TORCH}" "torch>=2.4,<2.14"
COPY pyproject.toml README.md LICENSE MANIFEST.in /src/
COPY proto /src/proto
COPY protocol /src/protocol
COPY compression /src/compression
COPY pipeline /src/pipeline
COPY recovery /src/recovery
COPY node /src/node
RUN pip install "/src[tensorboard,wandb]"

FROM python:${PYTHON}-slim-bookworm
COPY --from=build /opt/skerry /opt/skerry
RUN useradd --system --uid 1000 --create-home skerry \
    && install -d -o skerry -g skerry -m 0700 /data
ENV PATH=/opt/skerry/bin:$PATH SKERRY_HOME=/data/node SKERRY_LISTEN__PORT=4001
USER skerry
WORKDIR /data
VOLUME /data
EXPOSE 4001
# It answers at once, or it hangs; the first start reads torch from disk.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["skerry", "status"]
# SIGTERM, docker's default: the daemon needs at most 10 s, docker's default too.
ENTRYPOINT ["skerry"]
CMD ["daemon"]
