# PathAsst's server: page, API and MCP. `docker build .` for CPUs; `--build-arg INDEX=https://download.pytorch.org/whl/cu130` for GPUs.
FROM python:3.12-slim-trixie AS build
ARG INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY models models
COPY recipes recipes
COPY examples examples
RUN python -m venv /opt/pathasst \
    && /opt/pathasst/bin/pip install --no-cache-dir --extra-index-url "$INDEX" ".[slides,llamacpp,openid,otel,dicom]"

FROM python:3.12-slim-trixie
# libgomp1 and libgl1: shared libraries of scikit-learn and OpenCV.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends -y libgl1 libglib2.0-0 libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /home/pathasst pathasst \
    && install -d -o pathasst -g pathasst -m 0700 /var/lib/pathasst
COPY --from=build /opt/pathasst /opt/pathasst
ENV PATH=/opt/pathasst/bin:$PATH \
    PATHASST_HOME=/var/lib/pathasst \
    PATHASST_CACHE=/var/lib/pathasst/cache \
    HF_HUB_OFFLINE=1 \
    PYTHONUNBUFFERED=1
USER 10001
VOLUME /var/lib/pathasst
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
ENTRYPOINT ["pathasst"]
CMD ["serve", "--host", "0.0.0.0"]
