# syntax=docker/dockerfile:1
ARG BASE=docker.io/library/python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
# For Kerberos, whose package has to be compiled.
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    gcc libc6-dev libkrb5-dev python3-dev
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY etc etc
COPY gateway gateway
COPY twisted twisted
RUN python3 -m venv /opt/pop3gw \
 && /opt/pop3gw/bin/pip install --no-cache-dir --disable-pip-version-check '.[kerberos,compression]' \
 # twistd looks for its plugins once and for all here, where it may still write.
 && cd / && /opt/pop3gw/bin/twistd --help > /dev/null

FROM ${BASE}
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends libgssapi-krb5-2 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 pop3gw \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/pop3gw --create-home pop3gw
COPY --from=build /opt/pop3gw /opt/pop3gw
COPY etc/pop3gw.toml /etc/pop3gw/pop3gw.toml
ENV PATH=/opt/pop3gw/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    POP3GW_CONFIG=/etc/pop3gw/pop3gw.toml \
    POP3GW_STATE_DIR=/var/lib/pop3gw \
    POP3GW_LISTENERS__POP3__ENDPOINT=tcp:1110 \
    POP3GW_LISTENERS__POP3S__ENDPOINT=tcp:1995
USER 10001:10001
WORKDIR /var/lib/pop3gw
VOLUME /var/lib/pop3gw
EXPOSE 1110 1995
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
  CMD ["python3", "-c", "import poplib; poplib.POP3('127.0.0.1', 1110, timeout=4).quit()"]
ENTRYPOINT ["twistd", "-n", "--pidfile=", "pop3gw"]
