# wfq for containers: every service of docker-compose.yml runs from this one image.

FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv --without-pip /opt/wfq
# Dependencies first: this layer stays while only our code changes.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > needed.txt \
    && python -m pip install --no-cache-dir --constraint constraints.txt hatchling \
    && python -m pip --python /opt/wfq/bin/python install --no-cache-dir \
        --constraint constraints.txt --requirement needed.txt
COPY . .
RUN python -m hatchling build -t wheel -d dist \
    && python -m pip --python /opt/wfq/bin/python install --no-cache-dir --no-deps dist/*.whl

FROM python:3.13-slim
# No home and no shell: nothing in the container is written but what a volume or tmpfs holds.
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin wfq
COPY --from=build /opt/wfq /opt/wfq
ENV PATH=/opt/wfq/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Your workflows: mount them here, or build an image FROM this one that copies them.
WORKDIR /app
USER 10001:10001
EXPOSE 3500
ENTRYPOINT ["wfq"]
CMD ["--help"]
